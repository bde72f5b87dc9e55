# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh disable=SC1091,SC2154
#
# ntbtest.sh - in both guests: the kernel's own ntb_test.sh, guest a driving, b by ssh
#
# It makes some hundred ssh calls, so they share one connection.  On AMD its link test cannot end well: what it calls to
# take the link down only masks the port's interrupts there.  So on AMD, and only there, those two calls are taken out.
. "$RIG_DIR/guest/lib.sh"
if [ "$RIG_ME" = a ]; then plan 3; else plan 2; fi
script=$RIG_BUILD/rig/ntb/ntb_test.sh
dir=/run/home/.ssh

# A server on b that only a has the key for; both know it from /out.
serve() {
	mkdir -p "$dir" && chmod 700 "$dir"
	if [ "$RIG_ME" = a ]; then
		ssh-keygen -q -t ed25519 -N '' -f "$dir/key" && cp "$dir/key.pub" /out/a.pub
		together keys || return 1
		cat >"$dir/config" <<-END
			Host *
				User root
				IdentityFile $dir/key
				StrictHostKeyChecking no
				UserKnownHostsFile /dev/null
				LogLevel ERROR
				KexAlgorithms curve25519-sha256
				ControlMaster auto
				ControlPath $dir/master
				ControlPersist 600
		END
		together sshd || return 1
		wait_for 30 ssh "$RIG_PEER" true
	else
		ssh-keygen -q -t ed25519 -N '' -f "$dir/host"
		together keys || return 1
		cp /out/a.pub "$dir/authorized" && chmod 600 "$dir/authorized"
		/usr/sbin/sshd -f /dev/null -h "$dir/host" -o UsePAM=no -o PermitRootLogin=yes -o StrictModes=no \
			-o AuthorizedKeysFile="$dir/authorized" -o PidFile=none -o MaxSessions=20 &&
		together sshd
	fi
}

ntb_test() {
	if [ "$RIG_BRIDGE" = amd ]; then
		sed 's/^\tlink_test .*/\t: link_test is left out/' "$script" >/run/tmp/ntb_test.sh
		[ "$(grep -c 'link_test is left out' /run/tmp/ntb_test.sh)" = 2 ] || return 1
		script=/run/tmp/ntb_test.sh
	fi
	# 2^20 bytes for ntb_perf: windows that are trapped are slow.
	bash "$script" -r "$RIG_PEER" -p 20 "$port" "$port"
}

ntb_port
bind_linux
together bound
check "ssh between the guests" serve || finish
[ "$RIG_ME" = b ] || check "ntb_test.sh of the kernel" ntb_test
together tested 300
check "the kernel has nothing to complain of" kernel_is_fine
finish
