//! A way to the database that a test can cut, for one operator among several: plain TCP, passed on.

use harness::postgres::Database;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// The way. Dropped, it is cut: connections break, and no new ones are taken.
pub struct Relay {
    url: String,
    serving: JoinHandle<()>,
}

impl Relay {
    /// A way to this database.
    pub async fn to(database: &Database) -> Self {
        let options = database.options().unwrap();
        let (host, port) = (options.get_host().to_owned(), options.get_port());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap();
        let url = database.url().replace(&format!("{host}:{port}"), &here.to_string());
        assert_ne!(url, database.url(), "the way leads through here");
        let serving = tokio::spawn(async move {
            // They end with this task.
            let mut connections = JoinSet::new();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut far = TcpStream::connect((host.as_str(), port)).await.unwrap();
                connections.spawn(async move { copy_bidirectional(&mut near, &mut far).await });
            }
        });
        Self { url, serving }
    }

    /// The database's URL by this way.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
