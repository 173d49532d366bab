//! Failures in the sessions and the driver, each as the shortest run that shows it.

use std::sync::Arc;
use std::time::Duration;

use understudy::replica::Input;
use understudy::resp::Reply;

use super::clients::Connection;
use super::cluster::Cluster;
use super::net::address;
use super::run::{SHAPES, in_virtual_time};

const LIMIT: Duration = Duration::from_secs(10);

fn words(text: &str) -> Vec<Vec<u8>> {
    text.split(' ')
        .map(|word| word.as_bytes().to_vec())
        .collect()
}

async fn begun(shape: usize) -> (Arc<Cluster>, u32) {
    let cluster = Cluster::new(SHAPES[shape], 7, true);
    for place in cluster.places() {
        cluster.start(place);
    }
    assert!(cluster.until(LIMIT, Cluster::agrees).await, "it begins");
    let primary = cluster.serving().expect("it agrees on a primary");
    (cluster, primary)
}

/// A client asked ROLE, was told "master", and kept the connection. After a handover it read there
/// what the next reign had changed long ago, and took it for the truth.
#[test]
fn a_connection_ends_with_the_reign_that_its_client_was_told_of() {
    in_virtual_time(1, async {
        let (cluster, primary) = begun(1).await;
        let to = address(primary, 7379);
        let (end, _) = cluster
            .net
            .dial(100, to, LIMIT, LIMIT)
            .await
            .expect("the primary listens");
        let mut connection = Connection::new(end);
        let role = connection.ask(&words("ROLE")).await.expect("it answers");
        assert!(matches!(role, Reply::Array(parts) if parts[0] == Reply::bulk(b"master")));
        let node = cluster.node(primary).expect("it runs");
        node.enter([Input::Switchover(None)]);
        let handed = |cluster: &Cluster| cluster.serving().is_some_and(|place| place != primary);
        assert!(cluster.until(LIMIT, handed).await, "it hands over");
        assert!(cluster.until(LIMIT, Cluster::agrees).await, "all agree");
        match connection.ask(&words("GET k")).await {
            Ok(reply) => assert!(reply.is_error(), "an old reign answered {reply:?}"),
            Err(silence) => println!("closed: {silence:?}"),
        }
    });
}
