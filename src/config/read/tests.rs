use super::*;
use crate::config::ProcessEnvironment;

#[test]
fn scratch() {
    let file = std::env::var("SCRATCH").unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    let start = std::time::SystemTime::UNIX_EPOCH;
    let _ = start;
    match read(&text, &ProcessEnvironment) {
        Ok(l) => {
            println!("{}\n{:x}", crate::config::to_yaml(&l.config, &l.secrets).unwrap(), l.hash);
        }
        Err(p) => p.iter().for_each(|p| println!("{}", p.in_file("f"))),
    }
}
