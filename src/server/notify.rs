//! Keyspace events, published: `__keyspace@0__:key` tells events, `__keyevent@0__:event` keys.

use std::sync::Arc;
use std::time::Duration;

use super::Server;
use crate::keyspace::{EventClass, EventClasses, Notice};

/// Publishes what may be told, until the node stops.
pub(super) async fn publish(server: Arc<Server>) {
    let node = &server.node;
    loop {
        let notices = tokio::select! {
            notices = node.next_notices() => notices,
            () = node.stopping.cancelled() => return,
        };
        let classes = EventClasses::of_bits(node.store.notify().get());
        for notice in &notices {
            tell(&server, classes, notice);
            give_way(&server).await;
        }
    }
}

/// Subscribers read; one that does not is given up on, as everywhere.
async fn give_way(server: &Server) {
    let mut turns = 0;
    while server.pubsub.is_crowded() && turns < 200 {
        turns += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn tell(server: &Server, classes: EventClasses, notice: &Notice) {
    if classes.has(EventClass::Keyspace) {
        let channel = [b"__keyspace@0__:", &notice.key[..]].concat();
        server.pubsub.publish(&channel, notice.event.as_bytes());
    }
    if classes.has(EventClass::KeyEvent) {
        let channel = format!("__keyevent@0__:{}", notice.event);
        server.pubsub.publish(channel.as_bytes(), &notice.key);
    }
}
