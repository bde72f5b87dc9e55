#!/usr/bin/env ruby
# SPDX-License-Identifier: BSD-2-Clause
# echo.rb - see echolib.py: threads (calls that block, of Ruby's green scheduler's making), events (IO.select and *_nonblock)
require 'digest/md5' # by name: Digest loads what it lacks when it is asked, and not only once by threads
require 'socket'
require 'stringio'

SIZES = [1, 2, 54, 55, 116, 117, 1000, 16_383, 16_384, 16_385, 70_000, 200_000].freeze
STREAM = 1 << 20
SIDE, HOW = ARGV
PORT, COUNT = ARGV[2, 2].map(&:to_i)
Thread.abort_on_exception = true

def serve_one(s)
  md5 = Digest::MD5.new
  begin
    loop do
      data = s.readpartial(65_536)
      md5 << data
      s.write(data)
    end
  rescue EOFError
    s.write(md5.digest)
  end
  s.close
end

def ask_one(i)
  rnd = Random.new(i)
  md5 = Digest::MD5.new
  back = Digest::MD5.new
  s = TCPSocket.new('127.0.0.1', PORT)
  SIZES.each do |n|
    data = rnd.bytes(n)
    s.write(data)
    md5 << data
    got = s.read(n)
    raise "connection #{i}: #{n} bytes came back differently" if got != data
    back << got
  end
  data = rnd.bytes(STREAM)
  md5 << data
  writer = Thread.new do
    IO.copy_stream(StringIO.new(data), s)
    s.close_write
  end
  back << s.read(STREAM)
  writer.join
  raise "connection #{i}: the stream came back differently" if md5.digest != back.digest
  raise "connection #{i}: the server got other bytes" if s.read != md5.digest
  s.close
end

# A close of one thread ends the wait of another, and the peer sees the end.
def close_while_reading
  l = TCPServer.new('127.0.0.1', 0)
  a = TCPSocket.new('127.0.0.1', l.addr[1])
  b = l.accept
  20.times { a.write('x'); b.read(1); b.write('y'); a.read(1) }
  reader = Thread.new do
    a.read(1)
    'read returned'
  rescue IOError => e
    e.message
  end
  Thread.pass until reader.status == 'sleep'
  a.close
  raise "the reader says: #{reader.value}" unless reader.value.include?('closed')
  raise 'no end at the peer' unless b.read(1).nil?
end

class Serving
  attr_reader :s, :out, :finished

  def initialize(s)
    @s = s
    @md5 = Digest::MD5.new
    @out = String.new
  end

  def reads?
    !@finished
  end

  def ready(readable)
    if readable && !@finished && @out.bytesize < 1 << 18
      data = @s.read_nonblock(65_536, exception: false)
      if data.nil?
        @finished = true
        @out << @md5.digest
      elsif data != :wait_readable
        @md5 << data
        @out << data
      end
    end
    flush
    !(@finished && @out.empty?)
  end

  def flush
    return if @out.empty?
    n = @s.write_nonblock(@out, exception: false)
    @out.slice!(0, n) unless n == :wait_writable
    @out = String.new(@out)
  end
end

class Asking < Serving
  def initialize(i)
    super(Socket.new(:INET, :STREAM))
    @s.connect_nonblock(Socket.sockaddr_in(PORT, '127.0.0.1'), exception: false)
    @i = i
    @rnd = Random.new(i)
    @sizes = [*SIZES, STREAM]
    @back = Digest::MD5.new
    @tail = String.new
    message
  end

  def message
    @due = @sizes.shift
    @out = @rnd.bytes(@due)
    @md5 << @out
  end

  def ready(readable)
    flush
    data = readable ? @s.read_nonblock(65_536, exception: false) : :wait_readable
    if data.nil?
      raise "connection #{@i} differs or ends early" unless @shut && [@back.digest, @tail] == [@md5.digest] * 2
      return false
    elsif data != :wait_readable
      @back << data.byteslice(0, @due)
      @tail << data.byteslice(@due..) if data.bytesize > @due
      @due -= [@due, data.bytesize].min
    end
    if @due.zero? && @out.empty? && !@sizes.empty?
      message
    elsif @sizes.empty? && @out.empty? && !@shut
      @shut = true
      @s.shutdown(:WR)
    end
    true
  end
end

def events(conns, listener = nil)
  left = COUNT
  while left.positive?
    r, w = IO.select([listener, *conns.values.select(&:reads?).map(&:s)].compact, conns.values.reject { |c| c.out.empty? }.map(&:s))
    (r | w).each do |s|
      if s == listener
        a = s.accept_nonblock(exception: false)
        conns[a] = Serving.new(a) unless a == :wait_readable
      elsif !conns[s].ready(r.include?(s))
        conns.delete(s)
        s.close
        left -= 1
      end
    end
  end
end

if SIDE == 'server'
  l = TCPServer.new('127.0.0.1', PORT)
  l.listen(1000)
  HOW == 'events' ? events({}, l) : Array.new(COUNT) { Thread.new(l.accept) { |s| serve_one(s) } }.each(&:join)
else
  close_while_reading
  if HOW == 'events'
    events(Array.new(COUNT) { |i| Asking.new(i) }.to_h { |c| [c.s, c] })
  else
    Array.new(COUNT) { |i| Thread.new { ask_one(i) } }.each(&:join)
  end
  puts "#{COUNT} whole"
end
