//! The operator's listener.

use std::sync::Arc;

use crate::proxy::Proxy;
use crate::server::accept::Socketed;

/// Serves the operator until dropped.
pub async fn serve(socket: Socketed, proxy: Arc<Proxy>) {
    drop((socket, proxy));
    std::future::pending::<()>().await;
}
