use std::os::unix::fs::symlink;

use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;

/// The failure case of every wait; no test that passes waits this long.
const PATIENCE: Duration = Duration::from_secs(20);

/// No poll within a test: what is seen is seen by an event.
const NEVER: Duration = Duration::from_secs(3600);

/// Polls soon.
const OFTEN: Duration = Duration::from_millis(10);

/// A running watch and its looks.
struct Looks {
    looks: mpsc::UnboundedReceiver<Option<Vec<u8>>>,
    task: JoinHandle<()>,
}

impl Drop for Looks {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Looks {
    /// Starts a watch whose caller has loaded `loaded`, and waits for the first look.
    async fn start(path: &Path, loaded: &str, poll: Duration) -> Self {
        let (sender, looks) = mpsc::unbounded_channel();
        let known = Some(Fingerprint::of(loaded.as_bytes()));
        let task = tokio::spawn(look_again_and_again(path.to_owned(), known, poll, move |look| {
            let _ = sender.send(look);
        }));
        let mut this = Self { looks, task };
        assert_eq!(this.look().await, None, "what is loaded already is not told");
        this
    }

    async fn look(&mut self) -> Option<String> {
        let look = tokio::time::timeout(PATIENCE, self.looks.recv()).await;
        let look = look.expect("the watch does not look").expect("the watch has ended");
        look.map(|content| String::from_utf8(content).unwrap())
    }

    /// The next content that is told.
    async fn change(&mut self) -> String {
        loop {
            if let Some(content) = self.look().await {
                return content;
            }
        }
    }

    /// Waits for the content; a file that is written in place may be told half written before.
    async fn settles_at(&mut self, content: &str) {
        while self.change().await != content {}
    }
}

fn folder_with(content: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outrigger.yaml");
    fs::write(&path, content).unwrap();
    (folder, path)
}

fn rename_over(path: &Path, content: &str) {
    let new = path.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::rename(new, path).unwrap();
}

#[tokio::test]
async fn a_file_renamed_over_it_is_seen() {
    let (_folder, path) = folder_with("one");
    let mut looks = Looks::start(&path, "one", NEVER).await;
    for content in ["two", "three", "two"] {
        rename_over(&path, content);
        assert_eq!(looks.change().await, content);
    }
}

#[tokio::test]
async fn a_file_written_in_place_is_seen() {
    let (_folder, path) = folder_with("one");
    let mut looks = Looks::start(&path, "one", NEVER).await;
    for content in ["two", "three", "two"] {
        fs::write(&path, content).unwrap();
        looks.settles_at(content).await;
    }
}

/// Writes a version of a mounted ConfigMap as the kubelet does: a folder with a new name, and then
/// the link `..data` swapped by a rename.
fn publish(mount: &Path, version: &str, content: &str) {
    let old = fs::read_link(mount.join("..data"));
    let folder = format!("..2026_{version}");
    fs::create_dir(mount.join(&folder)).unwrap();
    fs::write(mount.join(&folder).join("outrigger.yaml"), content).unwrap();
    symlink(&folder, mount.join("..data_tmp")).unwrap();
    fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    if let Ok(old) = old {
        fs::remove_dir_all(mount.join(old)).unwrap();
    }
}

#[tokio::test]
async fn a_config_map_that_is_swapped_is_seen() {
    let mount = tempfile::tempdir().unwrap();
    let path = mount.path().join("outrigger.yaml");
    publish(mount.path(), "1", "one");
    symlink("..data/outrigger.yaml", &path).unwrap();
    let mut looks = Looks::start(&path, "one", NEVER).await;
    for (version, content) in [("2", "two"), ("3", "three")] {
        publish(mount.path(), version, content);
        assert_eq!(looks.change().await, content);
    }
}

#[tokio::test]
async fn a_file_that_goes_away_and_comes_back_is_told_only_if_it_is_another_one() {
    let (_folder, path) = folder_with("one");
    let mut looks = Looks::start(&path, "one", OFTEN).await;
    fs::remove_file(&path).unwrap();
    for _ in 0..3 {
        assert_eq!(looks.look().await, None);
    }
    rename_over(&path, "one");
    for _ in 0..3 {
        assert_eq!(looks.look().await, None);
    }
    fs::remove_file(&path).unwrap();
    rename_over(&path, "two");
    assert_eq!(looks.change().await, "two");
}

#[tokio::test]
async fn the_same_content_is_not_told_again() {
    let (_folder, path) = folder_with("one");
    let mut looks = Looks::start(&path, "one", NEVER).await;
    rename_over(&path, "one");
    assert_eq!(looks.look().await, None, "the event led to a look, and the look to nothing");
    File::options().append(true).open(&path).unwrap().set_modified(clock::wall_now()).unwrap();
    assert_eq!(looks.look().await, None);
    rename_over(&path, "two");
    assert_eq!(looks.change().await, "two");
}

#[tokio::test]
async fn a_change_before_the_watch_began_is_told() {
    let (_folder, path) = folder_with("two");
    let (sender, mut contents) = mpsc::unbounded_channel();
    let task = tokio::spawn(watch(path, Some(Fingerprint::of(b"one")), move |content| {
        let _ = sender.send(content);
    }));
    let content = tokio::time::timeout(PATIENCE, contents.recv()).await.unwrap();
    assert_eq!(content.as_deref(), Some(&b"two"[..]));
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    let end = tokio::time::timeout(PATIENCE, contents.recv()).await.unwrap();
    assert_eq!(end, None, "a watch that is dropped tells no more");
}

#[tokio::test]
async fn a_change_behind_a_link_to_another_folder_is_polled() {
    let (_folder, target) = folder_with("one");
    let linked = tempfile::tempdir().unwrap();
    let path = linked.path().join("outrigger.yaml");
    symlink(&target, &path).unwrap();
    let mut looks = Looks::start(&path, "one", OFTEN).await;
    rename_over(&target, "two");
    assert_eq!(looks.change().await, "two");
}

#[tokio::test]
async fn a_folder_that_is_replaced_is_watched_again() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("etc");
    let path = folder.join("outrigger.yaml");
    fs::create_dir(&folder).unwrap();
    fs::write(&path, "one").unwrap();
    let mut looks = Looks::start(&path, "one", OFTEN).await;
    fs::rename(&folder, root.path().join("old")).unwrap();
    fs::create_dir(&folder).unwrap();
    rename_over(&path, "two");
    assert_eq!(looks.change().await, "two");
}

#[test]
fn the_watch_moves_to_the_folder_that_has_the_name_now() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("etc");
    let path = folder.join("outrigger.yaml");
    let (mut eye, wake) = (Eye::default(), Arc::new(Notify::new()));
    eye.watch_folder_of(&path, &wake);
    assert!(eye.watcher.is_none() && eye.told);
    let mut watched = Vec::new();
    for old in ["a", "b"] {
        fs::create_dir(&folder).unwrap();
        eye.watch_folder_of(&path, &wake);
        assert!(!eye.told);
        watched.push(eye.watcher.as_ref().unwrap().1);
        fs::rename(&folder, root.path().join(old)).unwrap();
    }
    assert_ne!(watched[0], watched[1]);
}

#[test]
fn what_is_not_a_file_of_bounded_size_is_refused() {
    let (folder, path) = folder_with("");
    assert_eq!(read(&path), Ok(Vec::new()));
    assert!(read(folder.path()).unwrap_err().contains("regular"));
    assert!(read(&folder.path().join("missing")).is_err());
    let file = File::create(&path).unwrap();
    file.set_len(MAX_FILE).unwrap();
    assert_eq!(read(&path).unwrap().len() as u64, MAX_FILE);
    file.set_len(MAX_FILE + 1).unwrap();
    assert!(read(&path).unwrap_err().contains("16 MiB"));
}
