//! A partition that leaves one proxy with one of three members of etcd.

use super::{ALONE, code, counting, keyed_with, post, ready, said};
use crate::records::etcd::members::{MEMBERS, Members, free};
use crate::records::etcd::{gateway, relay::Relay};
use crate::support::sidecar::{Sidecar, eventually};

async fn at(
    service: &crate::support::service::Service,
    members: &[std::net::SocketAddr],
) -> Sidecar {
    let ends: Vec<_> = members.iter().map(|member| format!("\"http://{member}\"")).collect();
    let store = format!("etcd: {{ endpoints: [{}], op_timeout: 1s }}", ends.join(", "));
    let settings = "store: s, scope: [none], claim_deadline: 1s, commit_deadline: 5s";
    let sidecar = keyed_with(service, settings, ALONE, &store);
    ready(&sidecar).await;
    sidecar
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_smaller_side_refuses_new_keys_and_the_larger_one_serves() {
    let listen: [_; MEMBERS] = free();
    let mut relays = Vec::new();
    for member in listen {
        relays.push(Relay::to(member).await);
    }
    let members = Members::apart(listen, std::array::from_fn(|at| relays[at].address));
    let clients = members.clients();
    let service = counting().await;
    let small = at(&service, &clients[..1]).await;
    let large = at(&service, &clients[1..]).await;
    let ask = async |sidecar: &Sidecar, key: &str| sidecar.caller().send(post(key, "x")).await;
    eventually("a first key", async || ask(&small, "before").await.status == 201).await;
    let before = service.hits();

    let (name, _) = gateway::status(clients[0]).await.unwrap();
    relays[0].cut_all();
    relays[1..].iter().for_each(|relay| relay.cut_off(&name));

    let refused = ask(&small, "during").await;
    assert_eq!((refused.status, code(&refused).as_str()), (503, "store-unavailable"));
    assert_eq!(service.hits(), before);
    // The larger side knows what was done before, and serves what the smaller one refused.
    eventually("the larger side", async || ask(&large, "before").await.status == 201).await;
    assert_eq!(service.hits(), before);
    eventually("a key of the larger side", async || ask(&large, "during").await.status == 201)
        .await;
    assert_eq!(service.hits(), before + 1);

    relays.iter().for_each(Relay::heal);
    eventually("both agree", async || said(&ask(&small, "during").await).starts_with("replayed"))
        .await;
    assert_eq!(service.hits(), before + 1);
}
