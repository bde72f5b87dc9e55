// SPDX-License-Identifier: BSD-2-Clause
// echo.js - see echolib.py: events (Node's only way; its streams, with back-pressure), cluster (workers share the listener)
'use strict';
const cluster = require('cluster');
const crypto = require('crypto');
const net = require('net');

const SIZES = [1, 2, 54, 55, 116, 117, 1000, 16383, 16384, 16385, 70000, 200000];
const STREAM = 1 << 20;
const [side, how] = process.argv.slice(2, 4);
const [port, count] = process.argv.slice(4, 6).map(Number);
const random = crypto.randomBytes(1500000);

function serve(s, done) {
  const sum = crypto.createHash('md5');
  s.on('data', (data) => {
    sum.update(data);
    if (!s.write(data)) {
      s.pause();
      s.once('drain', () => s.resume());
    }
  });
  s.on('end', () => s.end(sum.digest()));
  s.on('error', (e) => { throw e; });
  s.on('close', done);
}

function server(finished) {
  let left = count;
  const l = net.createServer({ allowHalfOpen: true }, (s) => serve(s, () => {
    if (!--left) {
      l.close();
      if (finished) finished();
    }
  }));
  l.listen(port, '127.0.0.1', 1000);
  return l;
}

async function ask(i) {
  const s = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  const sum = crypto.createHash('md5');
  let got = Buffer.alloc(0), wake, ended = false;
  s.on('data', (data) => { got = Buffer.concat([got, data]); if (wake) wake(); });
  s.on('end', () => { ended = true; if (wake) wake(); });
  s.on('error', (e) => { throw e; });
  const take = async (n) => {
    while (got.length < n) {
      if (ended) throw new Error(`connection ${i}: early end`);
      await new Promise((ok) => { wake = ok; });
    }
    const out = got.subarray(0, n);
    got = got.subarray(n);
    return out;
  };
  for (const [k, n] of [...SIZES, STREAM].entries()) {
    const at = (i * 7919 + k * 104729) % 400000, data = random.subarray(at, at + n);
    sum.update(data);
    if (n === STREAM) s.end(data);      // half-close behind it
    else s.write(data);
    if (!data.equals(await take(n))) throw new Error(`connection ${i}: ${n} bytes came back differently`);
  }
  if (!sum.digest().equals(await take(16))) throw new Error(`connection ${i}: the server got other bytes`);
  while (!ended) await new Promise((ok) => { wake = ok; });
  if (got.length) throw new Error(`connection ${i}: more than was sent`);
}

if (side === 'client') {
  Promise.all(Array.from({ length: count }, (_, i) => ask(i))).then(() => console.log(`${count} whole`));
} else if (how === 'events') {
  server();
} else if (cluster.isPrimary) {
  // two workers: the primary accepts and passes each connection on by its descriptor (Node's default), in turn
  let left = count;
  const workers = [cluster.fork(), cluster.fork()];
  for (const w of workers) {
    w.on('message', () => {
      if (!--left) workers.forEach((x) => x.disconnect());
    });
    w.on('exit', (code) => { if (code) process.exit(1); });
  }
} else {
  net.createServer({ allowHalfOpen: true }, (s) => serve(s, () => process.send('done'))).listen(port, '127.0.0.1', 1000);
}
