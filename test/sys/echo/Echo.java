// SPDX-License-Identifier: BSD-2-Clause
// Echo.java - see echolib.py: blocking (java.net, a thread a connection), nio (one selector), async (completion handlers)
import java.io.*;
import java.net.*;
import java.nio.ByteBuffer;
import java.nio.channels.*;
import java.security.MessageDigest;
import java.util.*;
import java.util.concurrent.*;

public class Echo {
	static final int[] SIZES = {1, 2, 54, 55, 116, 117, 1000, 16383, 16384, 16385, 70000, 200000};
	static final int STREAM = 1 << 20;
	static final byte[] random = new byte[1500000];
	static int port, count;

	static byte[] message(int i, int k, int n) {
		int at = (i * 7919 + k * 104729) % 400000;
		return Arrays.copyOfRange(random, at, at + n);
	}

	static MessageDigest md5() {
		try {
			return MessageDigest.getInstance("MD5");
		} catch (Exception e) {
			throw new AssertionError(e);
		}
	}

	static void check(boolean ok, String what) {
		if (!ok)
			throw new AssertionError(what);
	}

	interface Work {
		void run(int i) throws Exception;
	}

	// As many threads as connections; the first failure is ours.
	static void threads(Work work) throws Exception {
		List<FutureTask<Void>> all = new ArrayList<>();
		for (int i = 0; i < count; i++) {
			int k = i;
			FutureTask<Void> t = new FutureTask<>(() -> { work.run(k); return null; });
			all.add(t);
			new Thread(t).start();
		}
		for (FutureTask<Void> t : all)
			t.get();
	}

	// ------------------------------------------------------------------ blocking

	static void serveBlocking() throws Exception {
		try (ServerSocket l = new ServerSocket(port, 1000, InetAddress.getLoopbackAddress())) {
			threads(i -> {
				Socket s = l.accept();
				MessageDigest sum = md5();
				byte[] buf = new byte[65536];
				int n;
				while ((n = s.getInputStream().read(buf)) > 0) {
					sum.update(buf, 0, n);
					s.getOutputStream().write(buf, 0, n);
				}
				s.getOutputStream().write(sum.digest());
				s.close();
			});
		}
	}

	static void askBlocking() throws Exception {
		threads(i -> {
			Socket s = new Socket(InetAddress.getLoopbackAddress(), port);
			s.setSoTimeout(30000);	// each read is a poll() first
			MessageDigest sum = md5(), back = md5();
			InputStream in = s.getInputStream();
			for (int k = 0; k < SIZES.length; k++) {
				byte[] data = message(i, k, SIZES[k]), got;
				s.getOutputStream().write(data);
				sum.update(data);
				got = in.readNBytes(data.length);
				check(Arrays.equals(data, got), "connection " + i + ": " + data.length + " bytes came back differently");
				back.update(got);
			}
			byte[] data = message(i, 77, STREAM);
			sum.update(data);
			FutureTask<Void> writer = new FutureTask<>(() -> {
				s.getOutputStream().write(data);
				s.shutdownOutput();
				return null;
			});
			new Thread(writer).start();
			back.update(in.readNBytes(STREAM));
			writer.get();
			byte[] digest = sum.digest();
			check(Arrays.equals(digest, back.digest()), "connection " + i + ": the stream came back differently");
			check(Arrays.equals(digest, in.readAllBytes()), "connection " + i + ": the server got other bytes");
			s.close();
		});
	}

	// A close of one thread ends the wait of another: the JDK dup2()s over the descriptor and signals the reader.
	static void closeWhileReading() throws Exception {
		try (ServerSocket l = new ServerSocket(0, 10, InetAddress.getLoopbackAddress());
		     Socket a = new Socket(l.getInetAddress(), l.getLocalPort()); Socket b = l.accept()) {
			for (int i = 0; i < 50; i++) {
				a.getOutputStream().write(i);
				check(b.getInputStream().read() == i, "there");
				b.getOutputStream().write(i);
				check(a.getInputStream().read() == i, "back");
			}
			FutureTask<String> reader = new FutureTask<>(() -> {
				try {
					return "read() returned " + a.getInputStream().read();
				} catch (SocketException e) {
					return "closed";
				}
			});
			Thread t = new Thread(reader);
			t.start();
			Thread.sleep(20);	// it is to be in its wait; nothing depends on it
			a.close();
			check(reader.get(20, TimeUnit.SECONDS).equals("closed"), "the reader of a closed socket: " + reader.get());
			check(b.getInputStream().read() == -1, "no end at the peer");
		}
	}

	// ----------------------------------------------------------------------- nio

	static class Conn {
		SocketChannel s;
		MessageDigest sum = md5(), back = md5();
		Deque<ByteBuffer> out = new ArrayDeque<>();
		ByteArrayOutputStream tail = new ByteArrayOutputStream();
		boolean end, shut;
		int i, k, due;

		long queued() {
			return out.stream().mapToLong(ByteBuffer::remaining).sum();
		}

		void flush() throws IOException {
			while (!out.isEmpty()) {
				s.write(out.toArray(new ByteBuffer[0]));	// writev()
				if (out.peek().hasRemaining())
					return;
				while (!out.isEmpty() && !out.peek().hasRemaining())
					out.remove();
			}
		}

		void next() {
			byte[] data = k < SIZES.length ? message(i, k, SIZES[k]) : message(i, 77, STREAM);
			k++;
			due = data.length;
			sum.update(data);
			out.add(ByteBuffer.wrap(data));
		}

		boolean serve(ByteBuffer buf) throws IOException {
			int n = queued() < 1 << 18 && !end ? s.read(buf.clear()) : 0;
			if (n > 0) {
				byte[] copy = Arrays.copyOf(buf.array(), n);
				sum.update(copy);
				out.add(ByteBuffer.wrap(copy));
			} else if (n < 0) {
				end = true;
				out.add(ByteBuffer.wrap(sum.digest()));
			}
			flush();
			return !(end && out.isEmpty());
		}

		boolean ask(ByteBuffer buf) throws IOException {
			flush();
			int n = s.read(buf.clear());
			if (n < 0) {
				byte[] digest = sum.digest();
				check(shut && Arrays.equals(digest, back.digest()) && Arrays.equals(digest, tail.toByteArray()),
				      "connection " + i + " differs or ends early");
				return false;
			}
			int mine = Math.min(n, due);
			back.update(buf.array(), 0, mine);
			tail.write(buf.array(), mine, n - mine);
			due -= mine;
			if (due == 0 && out.isEmpty() && k <= SIZES.length)
				next();
			else if (k > SIZES.length && out.isEmpty() && !shut) {
				shut = true;
				s.shutdownOutput();
			}
			return true;
		}
	}

	static void loop(boolean server) throws IOException {
		Selector sel = Selector.open();
		ServerSocketChannel l = null;
		if (server) {
			l = ServerSocketChannel.open().bind(new InetSocketAddress(InetAddress.getLoopbackAddress(), port), 1000);
			l.configureBlocking(false);
			l.register(sel, SelectionKey.OP_ACCEPT);
		}
		for (int i = 0; !server && i < count; i++) {
			Conn c = new Conn();
			c.i = i;
			c.s = SocketChannel.open();
			c.s.configureBlocking(false);
			c.s.connect(new InetSocketAddress(InetAddress.getLoopbackAddress(), port));
			c.s.register(sel, SelectionKey.OP_CONNECT, c);
		}
		ByteBuffer buf = ByteBuffer.allocate(65536);
		for (int left = count; left > 0;) {
			sel.select();
			for (Iterator<SelectionKey> it = sel.selectedKeys().iterator(); it.hasNext(); ) {
				SelectionKey key = it.next();
				it.remove();
				Conn c = (Conn)key.attachment();
				if (key.isAcceptable()) {
					c = new Conn();
					c.s = l.accept();
					if (c.s == null)
						continue;
					c.s.configureBlocking(false);
					c.s.register(sel, SelectionKey.OP_READ, c);
					continue;
				}
				if (key.isConnectable()) {
					c.s.finishConnect();
					c.next();
				}
				if (server ? c.serve(buf) : c.ask(buf)) {
					key.interestOps((c.end ? 0 : SelectionKey.OP_READ) | (c.out.isEmpty() ? 0 : SelectionKey.OP_WRITE));
				} else {
					c.s.close();
					left--;
				}
			}
		}
	}

	// --------------------------------------------------------------------- async: a pool of threads on one set, ONESHOT

	static class Serving implements CompletionHandler<Integer, Boolean> {
		final AsynchronousSocketChannel s;
		final ByteBuffer buf = ByteBuffer.allocate(65536);
		final MessageDigest sum = md5();
		final CountDownLatch done;
		boolean end;

		Serving(AsynchronousSocketChannel s, CountDownLatch done) {
			this.s = s;
			this.done = done;
			s.read(buf, true, this);
		}

		public void completed(Integer n, Boolean read) {
			if (read && n < 0) {
				end = true;
				buf.clear().put(sum.digest()).flip();
				s.write(buf, false, this);
			} else if (read) {
				buf.flip();
				sum.update(buf.duplicate());
				s.write(buf, false, this);
			} else if (buf.hasRemaining()) {
				s.write(buf, false, this);
			} else if (end) {
				try {
					s.close();
				} catch (IOException e) {
					failed(e, read);
				}
				done.countDown();
			} else {
				s.read(buf.clear(), true, this);
			}
		}

		public void failed(Throwable e, Boolean read) {
			e.printStackTrace();
			System.exit(1);
		}
	}

	static void serveAsync() throws Exception {
		CountDownLatch done = new CountDownLatch(count);
		AsynchronousServerSocketChannel l = AsynchronousServerSocketChannel.open()
			.bind(new InetSocketAddress(InetAddress.getLoopbackAddress(), port), 1000);
		for (int i = 0; i < count; i++)
			new Serving(l.accept().get(), done);
		done.await();
	}

	static void askAsync() throws Exception {
		threads(i -> {
			AsynchronousSocketChannel s = AsynchronousSocketChannel.open();
			s.connect(new InetSocketAddress(InetAddress.getLoopbackAddress(), port)).get();
			MessageDigest sum = md5();
			for (int k = 0; k <= SIZES.length; k++) {
				byte[] data = k < SIZES.length ? message(i, k, SIZES[k]) : message(i, 77, STREAM);
				ByteBuffer out = ByteBuffer.wrap(data), in = ByteBuffer.allocate(data.length);
				sum.update(data);
				Future<Integer> reading = s.read(in), writing = s.write(out);	// both under way at once
				// counted by what is complete: the buffer moves before its read is over
				for (int got = 0; got < data.length; ) {
					int n = reading.get();
					check(n > 0, "connection " + i + ": early end");
					got += n;
					if (writing.isDone() && out.hasRemaining())
						writing = s.write(out);
					if (got < data.length)
						reading = s.read(in);
				}
				writing.get();
				check(Arrays.equals(data, in.array()), "connection " + i + ": " + data.length + " bytes came back differently");
			}
			s.shutdownOutput();
			ByteBuffer in = ByteBuffer.allocate(17);
			while (s.read(in).get() > 0)
				;
			check(in.position() == 16 && Arrays.equals(sum.digest(), Arrays.copyOf(in.array(), 16)), "connection " + i + ": the server got other bytes");
			s.close();
		});
	}

	public static void main(String[] args) throws Exception {
		boolean server = args[0].equals("server");
		port = Integer.parseInt(args[2]);
		count = Integer.parseInt(args[3]);
		new Random(1).nextBytes(random);
		switch (args[1]) {
		case "blocking":
			if (server) {
				serveBlocking();
			} else {
				closeWhileReading();
				askBlocking();
			}
			break;
		case "nio":
			loop(server);
			break;
		case "async":
			if (server)
				serveAsync();
			else
				askAsync();
			break;
		default:
			throw new IllegalArgumentException(args[1]);
		}
		if (!server)
			System.out.println(count + " whole");
		System.exit(0);
	}
}
