/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * peer.h - messages to and from the broker of the other host (abi_peer.h), by a cable or by a port
 *
 * A cable is a socket (meet.h); a port has a control ring (bridge.h).  What is said there is the same.
 *
 * Sending never fails for the caller: a cable that does not take a message is lost, which ntbs_peer_reap() makes
 * known after the batch of events (chan.c, remote.c).
 */
#ifndef NTBSOCK_BROKER_PEER_H
#define NTBSOCK_BROKER_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <ntbsock/abi_broker.h>
#include <ntbsock/abi_peer.h>

struct ntbs_region;

int ntbs_peer_open(const char *path);	/* of a cable; NULL: over the port.  0 or a negative errno, logged */
void ntbs_peer_close(void);
void ntbs_peer_tick(void);		/* about once a second */
void ntbs_peer_reap(void);		/* after each batch of events */

bool ntbs_peer_is_up(void);		/* HELLO was said both ways */
bool ntbs_peer_is_proc(uint32_t proc);	/* up, and that is a process of the other host */

/* Messages; nothing happens while the cable is down. */
void ntbs_peer_offer(uint32_t uid, uint32_t entry, uint64_t word, uint32_t proc, uint32_t hint,
		     const struct ntbs_tuple *tuple);
void ntbs_peer_claim(uint32_t uid, uint32_t entry, uint64_t word, uint64_t chan, uint32_t lease,
		     uint32_t ref_entry, uint32_t ref_tag);
void ntbs_peer_claim_result(const struct ntbs_peer_claim *claim, uint64_t word, int err);
void ntbs_peer_chan(enum ntbs_peer_type type, uint64_t chan, uint32_t acceptor, uint32_t connector, uint32_t uid,
		    uint32_t reason, const struct ntbs_region *region, const int *fds, int nr_fds);
void ntbs_peer_end(enum ntbs_peer_type type, uint64_t chan, uint32_t lease, uint32_t generation);
void ntbs_peer_mbox(uint32_t from, uint32_t to, uint32_t mbox, int fd);
void ntbs_peer_proc_gone(uint32_t proc);
void ntbs_peer_ask_proc(uint32_t proc);

/* From the port: a session of its link begins, ends; a message has come. */
void ntbs_peer_port_up(void);
void ntbs_peer_port_down(const char *why);
void ntbs_peer_packet(const void *packet, size_t len_bytes);

#endif
