use tokio::io::DuplexStream;

use super::super::client::{Client, Connected, Failure, Offer};
use super::super::files::tests::Scene;
use super::*;
use crate::config::tls::UpstreamTls;
use crate::telemetry::metrics::HandshakeOut;

type Shaken =
    (Result<Accepted<DuplexStream>, HandshakeIn>, Result<Connected<DuplexStream>, Failure>);

/// Both sides of one handshake, in memory.
async fn shake(server: &Server, client: &Client, name: &str, offer: Offer) -> Shaken {
    let (here, there) = tokio::io::duplex(64 * 1024);
    let accepting = async {
        let mut accepted = server.accept(here).await;
        if let Ok(accepted) = &mut accepted {
            // The tickets of TLS 1.3 go out with the first answer.
            let written = tokio::io::AsyncWriteExt::write_all(&mut accepted.stream, b"x").await;
            written.expect("it is taken");
        }
        accepted
    };
    let connecting = async {
        let mut connected = client.connect(there, name, offer).await;
        if let Ok(connected) = &mut connected {
            let mut byte = [0];
            // A client that is refused learns it here.
            let _ = tokio::io::AsyncReadExt::read(&mut connected.stream, &mut byte).await;
        }
        connected
    };
    tokio::join!(accepting, connecting)
}

/// A server that asks for certificates of itself, and a client that has one.
fn both(scene: &Scene, required: bool) -> (Server, Client) {
    let server = scene.write("server", &["a.test"], 2040);
    let client = scene.write("client", &["me.test"], 2040);
    let settings = ListenerTls {
        cert: Some(server.cert.clone()),
        key: Some(server.key),
        client_ca: Some(client.cert.clone()),
        require_client_cert: Some(required),
        ..ListenerTls::default()
    };
    let both = [Protocol::Http1, Protocol::Http2];
    let server_side = Server::load(&settings, &both, &Disk::default()).unwrap();
    let settings = UpstreamTls {
        ca: Some(server.cert),
        cert: Some(client.cert),
        key: Some(client.key),
        server_name: None,
    };
    (server_side, Client::load(&settings, &Disk::default()).unwrap())
}

#[tokio::test]
async fn a_client_is_known_by_its_certificate_in_full_and_resumed_handshakes() {
    let scene = Scene::new();
    let (server, client) = both(&scene, true);
    for round in 0..3 {
        let (accepted, connected) = shake(&server, &client, "a.test", Offer::Either).await;
        let (accepted, connected) = (accepted.unwrap(), connected.unwrap());
        assert_eq!((accepted.resumed, connected.resumed), (round > 0, round > 0));
        assert_eq!(accepted.identity.unwrap().name(), Some("me.test"));
        assert_eq!(accepted.protocol, Some(Protocol::Http2));
    }
}

#[tokio::test]
async fn who_shows_nothing_is_nobody_or_is_refused() {
    let scene = Scene::new();
    for required in [false, true] {
        let (server, _) = both(&scene, required);
        let ca = Some(scene.0.path().join("server.crt"));
        let settings = UpstreamTls { ca, ..UpstreamTls::default() };
        let client = Client::load(&settings, &Disk::default()).unwrap();
        let (accepted, _) = shake(&server, &client, "a.test", Offer::Http1).await;
        match accepted {
            Ok(accepted) => {
                assert!(!required && accepted.identity.is_none());
                assert_eq!(accepted.protocol, Some(Protocol::Http1));
            }
            Err(end) => assert!(required && end == HandshakeIn::NoCertificate, "{end:?}"),
        }
    }
}

#[tokio::test]
async fn both_sides_name_the_cause_alike() {
    let scene = Scene::new();
    let (server, client) = both(&scene, true);
    let (accepted, connected) = shake(&server, &client, "b.test", Offer::Http1).await;
    assert_eq!(connected.unwrap_err().end, HandshakeOut::WrongName);
    assert_eq!(accepted.unwrap_err(), HandshakeIn::Refused);
    for name in ["", "a b", "."] {
        let (here, there) = tokio::io::duplex(1024);
        let failure = client.connect(there, name, Offer::Http1).await.unwrap_err();
        assert_eq!(failure.end, HandshakeOut::WrongName, "{name:?}");
        drop(here);
    }
}

#[test]
fn a_file_that_stays_the_same_is_not_read_into_anything_new() {
    let scene = Scene::new();
    let (server, client) = both(&scene, true);
    let now = clock::wall_now();
    assert_eq!(server.refresh(&Disk::default(), now), None);
    assert_eq!(client.refresh(&Disk::default(), now), None);
    scene.write("server", &["c.test"], 2040);
    assert_eq!(server.refresh(&Disk::default(), now), Some(Swap::Applied));
    assert_eq!(server.shown()[0].names, ["c.test"]);
    assert_eq!(client.refresh(&Disk::default(), now), Some(Swap::Applied));
}
