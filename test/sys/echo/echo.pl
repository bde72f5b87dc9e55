#!/usr/bin/env perl
# SPDX-License-Identifier: BSD-2-Clause
# echo.pl - see echolib.py: processes (a child for each connection, calls that block), events (IO::Select)
use strict;
use warnings;
use Digest::MD5;
use Errno qw(EAGAIN EINTR EINPROGRESS);
use IO::Select;
use IO::Socket::INET;

my @SIZES = (1, 2, 54, 55, 116, 117, 1000, 16383, 16384, 16385, 70000, 200000);
my $STREAM = 1 << 20;
my ($side, $how, $port, $count) = @ARGV;

sub write_all {
	my ($s, $data) = @_;
	for (my $at = 0; $at < length $data;) {
		my $n = syswrite $s, $data, length($data) - $at, $at;
		die "write: $!" unless defined $n || $!{EINTR};
		$at += $n // 0;
	}
}

sub read_all {
	my ($s, $n) = @_;
	my $data = '';
	while (length $data < $n) {
		my $got = sysread $s, $data, $n - length $data, length $data;
		die "read: $!" unless defined $got;
		die 'EOF after ' . length($data) . " of $n bytes" unless $got;
	}
	return $data;
}

my $random = join '', map { pack 'N', rand 1 << 32 } 1 .. 300000;
sub message {
	my ($i, $k, $n) = @_;
	return substr $random, ($i * 7919 + $k * 104729) % 150000, $n;
}

# A listener that prints by name, as scripts do: PerlIO's own buffers, on read and write.
sub serve_one {
	my ($s) = @_;
	my $md5 = Digest::MD5->new;
	binmode $s;
	while (1) {
		my $got = sysread $s, my $data, 65536;
		die "read: $!" unless defined $got;
		last unless $got;
		$md5->add($data);
		print {$s} $data or die "print: $!";
		$s->flush;
	}
	print {$s} $md5->digest;
	close $s or die "close: $!";
}

sub ask_one {
	my ($i) = @_;
	my ($k, $md5, $back) = (0, Digest::MD5->new, Digest::MD5->new);
	my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) or die "connect: $!";
	for my $n (@SIZES) {
		my $data = message($i, $k++, $n);
		write_all($s, $data);
		$md5->add($data);
		my $got = read_all($s, $n);
		die "connection $i: $n bytes came back differently" if $got ne $data;
		$back->add($got);
	}
	my $data = message($i, $k, $STREAM);
	$md5->add($data);
	# a child writes while the parent reads: both share the socket
	my $pid = fork // die "fork: $!";
	if (!$pid) {
		write_all($s, $data);
		shutdown $s, 1 or die "shutdown: $!";
		exit 0;
	}
	$back->add(read_all($s, $STREAM));
	waitpid $pid, 0;
	die "connection $i: its writer ended with $?" if $?;
	my $digest = $md5->digest;
	die "connection $i: the stream came back differently" if $digest ne $back->digest;
	die "connection $i: the server got other bytes" if $digest ne read_all($s, 16);
	die "connection $i: more than was sent" if sysread $s, $data, 1;
	close $s;
}

sub listener {
	return IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 1000, ReuseAddr => 1) || die "listen: $!";
}

# A child each, as many at once as there are connections.
sub children {
	my ($work) = @_;
	my @pids;
	for my $i (0 .. $count - 1) {
		my $s = $side eq 'server' ? $work->[0]->accept : $i;
		my $pid = fork // die "fork: $!";
		if (!$pid) {
			$work->[1]->($s);
			exit 0;
		}
		close $s if ref $s;
		push @pids, $pid;
	}
	for (@pids) {
		waitpid $_, 0;
		die "a child ended with $?" if $?;
	}
}

# ------------------------------------------------------------------ events: state of a connection in a hash

sub flush_out {
	my ($c) = @_;
	return unless length $c->{out};
	my $n = syswrite $c->{s}, $c->{out};
	if (defined $n) { substr $c->{out}, 0, $n, '' } elsif (!$!{EAGAIN}) { die "write: $!" }
}

sub serve_ready {
	my ($c, $readable) = @_;
	if ($readable && length $c->{out} < 1 << 18) {
		my $got = sysread $c->{s}, my $data, 65536;
		if ($got) {
			$c->{md5}->add($data);
			$c->{out} .= $data;
		} elsif (defined $got) {
			$c->{out} .= $c->{md5}->digest;
			$c->{end} = 1;
		} elsif (!$!{EAGAIN}) {
			die "read: $!";
		}
	}
	flush_out($c);
	return !($c->{end} && !length $c->{out});
}

sub next_message {
	my ($c) = @_;
	$c->{due} = shift @{$c->{sizes}};
	$c->{out} = message($c->{i}, $c->{k}++, $c->{due});
	$c->{md5}->add($c->{out});
}

sub ask_ready {
	my ($c, $readable) = @_;
	flush_out($c);
	if ($readable) {
		my $got = sysread $c->{s}, my $data, 65536;
		if ($got) {
			$c->{back}->add(substr $data, 0, $c->{due});
			$c->{tail} .= substr $data, $c->{due} if $got > $c->{due};
			$c->{due} -= $got < $c->{due} ? $got : $c->{due};
		} elsif (defined $got) {
			my $digest = $c->{md5}->digest;
			die "connection $c->{i} differs or ends early" if !$c->{shut} || $digest ne $c->{back}->digest || $digest ne $c->{tail};
			return 0;
		} elsif (!$!{EAGAIN}) {
			die "read: $!";
		}
	}
	if (!$c->{due} && !length $c->{out} && @{$c->{sizes}}) {
		next_message($c);
	} elsif (!@{$c->{sizes}} && !length $c->{out} && !$c->{shut}++) {
		shutdown $c->{s}, 1 or die "shutdown: $!";
	}
	return 1;
}

sub events {
	my ($listener, $ready, @conns) = @_;
	my %of = map { fileno($_->{s}) => $_ } @conns;
	my $left = $count;
	while ($left) {
		my $r = IO::Select->new(map { $_->{s} } grep { !$_->{end} } values %of);
		my $w = IO::Select->new(map { $_->{s} } grep { length $_->{out} } values %of);
		$r->add($listener) if $listener;
		my ($can_read, $can_write) = IO::Select::select($r, $w, undef);
		my %readable = map { fileno($_) => 1 } @{$can_read || []};
		my %any = (%readable, map { fileno($_) => 1 } @{$can_write || []});
		for my $fd (keys %any) {
			my $c = $of{$fd};
			if (!$c) {
				my $s = $listener->accept or next;
				$s->blocking(0);
				$of{fileno $s} = {s => $s, md5 => Digest::MD5->new, out => ''};
			} elsif (!$ready->($c, $readable{$fd})) {
				delete $of{$fd};
				close $c->{s};
				$left--;
			}
		}
	}
}

if ($side eq 'server') {
	my $l = listener();
	$how eq 'events' ? events($l, \&serve_ready) : children([$l, \&serve_one]);
} elsif ($how eq 'events') {
	my @conns = map {
		my $c = {i => $_, k => 0, md5 => Digest::MD5->new, back => Digest::MD5->new, tail => '', sizes => [@SIZES, $STREAM]};
		$c->{s} = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Blocking => 0) or die "connect: $!";
		next_message($c);
		$c;
	} 0 .. $count - 1;
	events(undef, \&ask_ready, @conns);
} else {
	children([undef, \&ask_one]);
}
print "$count whole\n" if $side eq 'client';
