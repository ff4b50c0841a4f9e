use std::sync::{Arc, Mutex};

use super::*;

/// Keeps what is written.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Kept {
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut self.0.lock().unwrap())).unwrap()
    }
}

fn logged(log: Log, body: impl FnOnce(&LogControl, &Kept)) {
    let kept = Kept::default();
    let writer = kept.clone();
    let (dispatch, control) = build(&log, move || writer.clone());
    tracing::dispatcher::with_default(&dispatch, || body(&control, &kept));
}

#[test]
fn a_json_line_is_one_object_with_its_fields_at_the_top() {
    logged(Log { format: Format::Json, level: Level::Info }, |_, kept| {
        tracing::warn!(upstream = "stock", attempts = 3, "circuit\nopened");
        let line = kept.take();
        assert_eq!(line.lines().count(), 1, "{line}");
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["message"], "circuit\nopened");
        assert_eq!(line["upstream"], "stock");
        assert_eq!(line["attempts"], 3);
        let time = line["timestamp"].as_str().unwrap();
        assert!(time.ends_with('Z') && time.as_bytes()[10] == b'T', "{time}");
    });
}

#[test]
fn a_text_line_has_no_colour() {
    logged(Log { format: Format::Text, level: Level::Info }, |_, kept| {
        tracing::info!(upstream = "stock", "ready");
        let line = kept.take();
        assert!(line.contains("INFO") && line.contains("ready upstream=\"stock\""), "{line}");
        assert!(!line.contains('\u{1b}'), "{line}");
    });
}

#[test]
fn the_level_can_be_changed_both_ways() {
    logged(Log { format: Format::Json, level: Level::Info }, |control, kept| {
        let written = |level| {
            control.set_level(level);
            tracing::error!("e");
            tracing::warn!("w");
            tracing::info!("i");
            tracing::debug!("d");
            tracing::trace!("t");
            kept.take().lines().count()
        };
        assert_eq!(written(Level::Debug), 4);
        assert_eq!(written(Level::Error), 1);
        assert_eq!(written(Level::Info), 3);
        assert_eq!(written(Level::Warn), 2);
    });
}

#[test]
fn libraries_are_heard_from_warnings_on() {
    logged(Log { format: Format::Json, level: Level::Debug }, |control, kept| {
        tracing::debug!(target: "hickory_proto", "chatter");
        tracing::info!(target: "hickory_proto", "chatter");
        assert_eq!(kept.take(), "");
        tracing::warn!(target: "hickory_proto", "trouble");
        assert_eq!(kept.take().lines().count(), 1);
        control.set_level(Level::Error);
        tracing::warn!(target: "hickory_proto", "trouble");
        assert_eq!(kept.take(), "");
    });
}
