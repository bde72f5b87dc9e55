// SPDX-License-Identifier: BSD-2-Clause
// echo.rs - see echolib.py: tokio, four workers that share one edge-triggered set
use std::error::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const SIZES: [usize; 12] = [1, 2, 54, 55, 116, 117, 1000, 16383, 16384, 16385, 70000, 200000];
const STREAM: usize = 1 << 20;
type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

// MD5 of RFC 1321: the standard library has none, and a crate for it is not worth its packages.
struct Md5 {
    state: [u32; 4],
    rest: Vec<u8>,
    bytes: u64,
}

impl Md5 {
    fn new() -> Self {
        Md5 { state: [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476], rest: Vec::new(), bytes: 0 }
    }

    fn block(state: &mut [u32; 4], data: &[u8]) {
        const TURN: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];
        let word = |i: usize| u32::from_le_bytes(data[4 * i..4 * i + 4].try_into().unwrap());
        let [mut a, mut b, mut c, mut d] = *state;
        for i in 0..64 {
            let (f, g) = match i / 16 {
                0 => ((b & c) | (!b & d), i),
                1 => ((d & b) | (!d & c), (5 * i + 1) % 16),
                2 => (b ^ c ^ d, (3 * i + 5) % 16),
                _ => (c ^ (b | !d), 7 * i % 16),
            };
            let k = (((i + 1) as f64).sin().abs() * 4294967296.0) as u32;
            let sum = a.wrapping_add(f).wrapping_add(k).wrapping_add(word(g));
            (a, d, c) = (d, c, b);
            b = b.wrapping_add(sum.rotate_left(TURN[i / 16][i % 4]));
        }
        for (s, v) in state.iter_mut().zip([a, b, c, d]) {
            *s = s.wrapping_add(v);
        }
    }

    fn update(&mut self, data: &[u8]) {
        self.bytes += data.len() as u64;
        self.rest.extend_from_slice(data);
        let whole = self.rest.len() / 64 * 64;
        for chunk in self.rest[..whole].chunks(64) {
            Self::block(&mut self.state, chunk);
        }
        self.rest.drain(..whole);
    }

    fn digest(mut self) -> [u8; 16] {
        let bits = self.bytes * 8;
        self.update(&[0x80]);
        while self.rest.len() != 56 {
            self.update(&[0]);
        }
        self.update(&bits.to_le_bytes());
        let mut out = [0; 16];
        for (i, s) in self.state.iter().enumerate() {
            out[4 * i..4 * i + 4].copy_from_slice(&s.to_le_bytes());
        }
        out
    }
}

async fn serve(mut s: TcpStream) -> Result<()> {
    let (mut sum, mut buf) = (Md5::new(), vec![0; 65536]);
    loop {
        let n = s.read(&mut buf).await?;
        if n == 0 {
            break;
        }
        sum.update(&buf[..n]);
        s.write_all(&buf[..n]).await?;
    }
    s.write_all(&sum.digest()).await?;
    s.shutdown().await?;
    Ok(())
}

fn message(i: usize, k: usize, n: usize) -> Vec<u8> {
    let mut x = (i * 1000 + k + 1) as u64;
    (0..n)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x as u8
        })
        .collect()
}

async fn ask(i: usize, port: u16) -> Result<()> {
    let s = TcpStream::connect(("127.0.0.1", port)).await?;
    let (mut read, mut write) = s.into_split();
    let mut sum = Md5::new();
    for (k, &n) in SIZES.iter().enumerate() {
        let (data, mut got) = (message(i, k, n), vec![0; n]);
        write.write_all(&data).await?;
        sum.update(&data);
        read.read_exact(&mut got).await?;
        if got != data {
            return Err(format!("connection {i}: {n} bytes came back differently").into());
        }
    }
    let (data, mut got) = (message(i, 77, STREAM), vec![0; STREAM]);
    sum.update(&data);
    let sent = data.clone();
    let writer = tokio::spawn(async move {
        write.write_all(&sent).await?;
        write.shutdown().await
    });
    read.read_exact(&mut got).await?;
    writer.await??;
    if got != data {
        return Err(format!("connection {i}: the stream came back differently").into());
    }
    let mut last = Vec::new();
    read.read_to_end(&mut last).await?;
    if last != sum.digest() {
        return Err(format!("connection {i}: the server got other bytes").into());
    }
    Ok(())
}

async fn run(server: bool, port: u16, count: usize) -> Result<()> {
    let mut tasks = Vec::new();
    let listener = if server { Some(TcpListener::bind(("127.0.0.1", port)).await?) } else { None };
    for i in 0..count {
        tasks.push(match &listener {
            Some(l) => tokio::spawn(serve(l.accept().await?.0)),
            None => tokio::spawn(ask(i, port)),
        });
    }
    for t in tasks {
        t.await??;
    }
    if !server {
        println!("{count} whole");
    }
    Ok(())
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let mut rt = tokio::runtime::Builder::new_multi_thread();
    let workers = if args[2] == "tokio" { 4 } else { return Err("how?".into()) };
    rt.worker_threads(workers).enable_io().build()?.block_on(run(args[1] == "server", args[3].parse()?, args[4].parse()?))
}
