// wp_config.h — the numbers everything else is built from.
//
// Layer 0. Source: this project. A number has its unit in its name and its
// reason beside it; what depends on the machine is measured at run time.
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef WP_CONFIG_H
#define WP_CONFIG_H

#include <stdint.h>

// Raised whenever a byte of the control segment or of the arena changes place.
#define WP_LAYOUT_VERSION 1u

// x86-64 and most ARM64 cores; a larger true line costs speed, never safety.
#define WP_CACHE_LINE 64u

// A seat index fits the 12 bits it has in the state word. 255 workers and the
// parent: four words of every per-seat bitmap.
#define WP_MAX_SEATS 256u
#define WP_SEAT_WORDS (WP_MAX_SEATS / 64u)
#define WP_PARENT_SEAT 0u
#define WP_NO_SEAT 0xfffu

// A slot is four cache lines: 112 bytes of record, the rest for the payload.
#define WP_SLOT_BYTES 256u
#define WP_INLINE_PAYLOAD_BYTES 144u

// Hints a worker moves at once from the parent's deque to its own. More saves
// contended CASes on one line, fewer spreads a burst better.
#define WP_STEAL_BATCH 8u

// One direction of messages between the parent and a worker: 2,000 small ones, which a
// sender posts in the millisecond that a busy system may take to run the receiver. A
// power of two.
#define WP_LANE_BYTES 65536u

// Larger messages go through the arena, whose smallest block has this size: so one
// record does not take the room of many.
#define WP_MESSAGE_INLINE_BYTES 1024u

// Every 61st search begins with the parent's deque, so that nested work cannot
// starve submissions. Prime, so it beats against no loop of the user's.
#define WP_FAIR_ROUND 61u

// Priorities -8 … 7; tasks of each wait in a set of their own, but for those of 0.
#define WP_PRIORITY_MIN (-8)
#define WP_PRIORITY_MAX 7
#define WP_LEVELS 16u

// So many strong tasks behind one seat are a long queue: others take some even while it
// goes on with them. More keep affinity, fewer use idle seats.
#define WP_STRONG_MANY 16u

// Hints of a light set that are looked through for the longest task, where costs are
// known. More orders larger bursts, and costs some 5 ns each for every task.
#define WP_LONGEST_LOOKS 256u

// A task that kills whoever decodes its arguments may be claimed so many times
// beyond its own attempts before it is settled as died.
#define WP_DECODE_DEATHS 2u

#endif
