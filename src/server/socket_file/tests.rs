use super::*;

const BACKLOG: i32 = 8;

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_file_has_its_permissions_and_goes_with_its_listener() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    for text in ["0600", "660", "0777"] {
        let wanted: SocketMode = text.parse().unwrap();
        let (listener, file) = listen(&path, Some(wanted), BACKLOG).unwrap();
        assert_eq!(mode(&path), wanted.bits(), "{text}");
        assert_eq!(file.path(), path);
        UnixStream::connect(&path).unwrap();
        drop(listener);
        drop(file);
        assert!(identity(&path).is_none());
    }
}

#[test]
fn what_a_dead_process_has_left_is_replaced_and_what_lives_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    // The listener is closed and its file stays, as after a kill.
    drop(UnixListener::bind(&path).unwrap());
    assert!(UnixStream::connect(&path).is_err());
    let (_listener, _file) = listen(&path, None, BACKLOG).unwrap();
    UnixStream::connect(&path).unwrap();
    let error = listen(&path, None, BACKLOG).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    UnixStream::connect(&path).unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "precious").unwrap();
    assert!(listen(&file, None, BACKLOG).is_err());
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn a_file_that_is_not_ours_any_more_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let (_listener, file) = listen(&path, None, BACKLOG).unwrap();
    let other = folder.path().join("other");
    let theirs = UnixListener::bind(&other).unwrap();
    fs::rename(&other, &path).unwrap();
    drop(file);
    UnixStream::connect(&path).unwrap();
    drop(theirs);
}

#[test]
fn modes_are_octal_and_of_a_file() {
    for text in ["", "66", "00660", "0888", "1777", "+660", "0o66", "rw-"] {
        assert!(text.parse::<SocketMode>().is_err(), "{text}");
    }
    assert_eq!("660".parse::<SocketMode>().unwrap().to_string(), "0660");
}
