//! A proxy with a fixed table, to be measured: `bench_proxy --listen 127.0.0.1:8080
//! --backend 127.0.0.1:9000 --threads 1`. With `--serve 127.0.0.1:9000` it is instead the
//! backend: it answers everything with the same few bytes, as fast as a loop over sockets can.

use std::error::Error;
use std::net::SocketAddr;

use model::{Backend, InstanceId, Listen, Listener, RouteTable, TableRoute};
use muster_gateway::{Proxy, Settings};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (mut listen, mut backends, mut threads) = (None, Vec::new(), 1);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{argument} needs a value"))?;
        match argument.as_str() {
            "--serve" => return Ok(serve(value.parse()?).await?),
            "--listen" => listen = Some(value.parse::<SocketAddr>()?),
            "--backend" => backends.push(value),
            "--threads" => threads = value.parse()?,
            _ => return Err(format!("{argument} is not known").into()),
        }
    }
    let listen = listen.ok_or("--listen is missing")?;
    let proxy = Proxy::start(Settings { threads, ..Settings::default() })?;
    let service: model::ServiceId = "/bench".parse()?;
    let backends = backends.into_iter().enumerate().map(|(slot, address)| Backend {
        instance: InstanceId::new(service.clone(), slot as u32, 1),
        address,
    });
    let route = TableRoute {
        hosts: Default::default(),
        path: "/".into(),
        service: service.clone(),
        backends: backends.collect(),
        empty_because: None,
    };
    let gateway = "bench".parse()?;
    let listener = Listener {
        gateway,
        listen: Listen(listen),
        trust: Default::default(),
        routes: vec![route],
    };
    proxy.switch(RouteTable { generation: 1, listeners: vec![listener] });
    let gateway_state = proxy
        .gateway_state()
        .wait_for(|gateway_state| gateway_state.generation == 1)
        .await?
        .clone();
    if let Some(reason) = gateway_state.failed.get(&listen) {
        return Err(format!("cannot listen: {reason}").into());
    }
    println!("ready");
    tokio::signal::ctrl_c().await?;
    proxy.stop().await;
    Ok(())
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nserver: bench\r\n\
    date: Sun, 01 Nov 2026 00:00:00 GMT\r\ncontent-length: 13\r\n\r\nHello, World!";

/// Requests without bodies only.
async fn serve(listen: SocketAddr) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind(listen).await?;
    println!("ready");
    loop {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let (mut buffer, mut filled) = ([0; 4096], 0);
            while let Ok(count @ 1..) = stream.read(&mut buffer[filled..]).await {
                filled += count;
                if buffer[..filled].ends_with(b"\r\n\r\n") {
                    filled = 0;
                    if stream.write_all(ANSWER).await.is_err() {
                        return;
                    }
                }
            }
        });
    }
}
