// wp_message.h — what travels in a lane: bodies, blocks that hold one, parts of one.
//
// Layer 5. Source: this project; the deaths are in docs/recovery.md.
//
//   body    the bytes themselves, up to WP_MESSAGE_INLINE_BYTES
//   block   | block | bytes |: the body is in the arena, and its life is the receiver's
//   part    | stream | total | bytes … |: when the arena has no room, so that no
//           message is too large and none waits for memory
//
// A process posts and reads under its own lock (the GIL). The parent alone reads on
// behalf of the dead.
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef WP_MESSAGE_H
#define WP_MESSAGE_H

#include "wp_wake.h"

enum wp_message_kind {
    WP_MESSAGE_NONE = WP_LANE_PAD, // nothing to read
    WP_MESSAGE_BODY,
    WP_MESSAGE_BLOCK,
    WP_MESSAGE_PART,
    WP_MESSAGE_CORRUPT, // the lane or the block it named was scribbled over
};

struct wp_message_block {
    uint64_t block;
    uint64_t bytes;
};
struct wp_message_part {
    uint64_t stream; // tells apart what several threads send at once
    uint64_t total;  // bytes of the whole body
};
#define WP_MESSAGE_PART_BYTES 8192u // an eighth of the lane: the receiver copies one while the next is written
_Static_assert(WP_MESSAGE_PART_BYTES + sizeof(struct wp_message_part) <= WP_LANE_BYTES / 4 - WP_LANE_HEAD,
               "a part fits");

// What was read, until wp_message_done.
struct wp_message {
    enum wp_message_kind kind;
    uint32_t lease;
    const uint8_t *bytes;
    uint64_t size;
    uint64_t block;
    struct wp_message_part part;
};

static inline struct wp_lane *wp_message_out(struct wp_view *view, uint32_t seat) {
    return view->self == WP_PARENT_SEAT ? &view->places[seat].to_seat : &wp_view_self(view)->to_parent;
}
static inline struct wp_lane *wp_message_in(struct wp_view *view, uint32_t seat) {
    return view->self == WP_PARENT_SEAT ? &view->places[seat].to_parent : &wp_view_self(view)->to_seat;
}

// Tell the receiver, without a system call while it is awake.
//
// Caller:   the sender, after the record is committed. `seat` is the worker's.
// Crash:    the message is in the lane and nobody was told: the parent reads it out.
static inline void wp_message_notify(struct wp_view *view, uint32_t seat) {
    if (view->self == WP_PARENT_SEAT) {
        // F1 is in there: a worker that arms re-checks its lane after F2.
        wp_notify_home(view, seat, WP_NO_HANDLE);
        return;
    }
    wp_fence_seq_cst(); // sync mail.posted (publish): the record, then the bit; see wp_message_posted
    if (!wp_idle_has(view->mail->posted, view->self)) wp_idle_set(view->mail->posted, view->self);
    wp_notify_home(view, WP_PARENT_SEAT, WP_NO_HANDLE);
}

// Make the receiver read its lane, whatever it waits for: this lane is full.
static inline void wp_message_press(struct wp_view *view, uint32_t seat) {
    uint32_t receiver = view->self == WP_PARENT_SEAT ? seat : WP_PARENT_SEAT;
    // relaxed: the sender looks again soon.
    if (wp_load_relaxed(&view->places[receiver].seat->parker) & WP_PARKER_ARMED) wp_unpark(view, receiver);
}

// Does anybody in the parent want messages? A look.
static inline bool wp_message_is_wanted(struct wp_view *view) {
    return wp_load_relaxed(&view->mail->listens) != 0; // relaxed: a flag of the parent's
}
static inline void wp_message_listen(struct wp_view *view, bool on) {
    wp_store_relaxed(&view->mail->listens, on); // relaxed: as above
}

// Room for a small body in the lane; NULL when the lane is full.
//
// Caller:   the sender, who fills it and calls wp_message_send.
static inline uint8_t *wp_message_begin(struct wp_view *view, uint32_t seat, uint64_t bytes) {
    uint8_t *memory;
    return wp_lane_begin(wp_message_out(view, seat), bytes, WP_MESSAGE_BODY, &memory) == WP_LANE_OK ? memory : NULL;
}
static inline void wp_message_send(struct wp_view *view, uint32_t seat) {
    wp_lane_commit(wp_message_out(view, seat));
    wp_message_notify(view, seat);
}

// Send a block that holds a body.
//
// Crash:    before the commit the block is the sender's, and with a dead worker's
//           arena it goes; after it, it is named by the lane.
// Returns:  false when the lane is full: the block stays with the caller.
static inline bool wp_message_send_block(struct wp_view *view, uint32_t seat, uint64_t block, uint64_t bytes) {
    struct wp_message_block body = {block, bytes};
    uint8_t *memory;
    if (wp_lane_begin(wp_message_out(view, seat), sizeof body, WP_MESSAGE_BLOCK, &memory) != WP_LANE_OK) return false;
    memcpy(memory, &body, sizeof body);
    wp_message_send(view, seat);
    return true;
}

// Send one part of a body, at most WP_MESSAGE_PART_BYTES.
//
// Returns:  false when the lane is full.
static inline bool wp_message_send_part(struct wp_view *view, uint32_t seat, uint64_t stream, uint64_t total,
                                        const uint8_t *bytes, uint64_t size) {
    struct wp_message_part part = {stream, total};
    uint8_t *memory;
    if (wp_lane_begin(wp_message_out(view, seat), sizeof part + size, WP_MESSAGE_PART, &memory) != WP_LANE_OK)
        return false;
    memcpy(memory, &part, sizeof part);
    memcpy(memory + sizeof part, bytes, size);
    wp_message_send(view, seat);
    return true;
}

// Where a worker's lane ends now, and whether it has read so far: so that a flood does
// not keep it reading for ever.
static inline uint64_t wp_message_horizon(struct wp_view *view) {
    return wp_load_relaxed(&wp_view_self(view)->to_seat.ends->tail); // relaxed: where to stop, no more
}
static inline bool wp_message_is_past(struct wp_view *view, uint64_t horizon) {
    return (int64_t)(horizon - wp_view_self(view)->to_seat.head) <= 0;
}

// Has any worker posted since the parent last looked? A look.
static inline bool wp_message_waits(struct wp_view *view) { return wp_idle_any(view->mail->posted); }

// The next worker whose lane the parent should read; WP_NO_SEAT when there is none.
// The caller reads it until it is empty.
static inline uint32_t wp_message_posted(struct wp_view *view, uint32_t from) {
    uint32_t seat = wp_idle_next(view->mail->posted, from, view->seats);
    if (seat == WP_NO_SEAT) return seat;
    wp_idle_clear(view->mail->posted, seat);
    // sync mail.posted (observe): cleared, then the lane is read. A record this
    // reading misses was committed after it, and its sender finds the bit clear.
    wp_fence_seq_cst();
    return seat;
}

// A lane was not read to its end: look there again.
static inline void wp_message_again(struct wp_view *view, uint32_t seat) {
    wp_idle_set(view->mail->posted, seat); // sync mail.posted (publish)
}

// Say how many messages this process has read and not handled yet.
static inline void wp_message_unheard(struct wp_view *view, uint32_t messages) {
    wp_store_relaxed(&view->unheard, messages); // relaxed: this process's own; see wp_seat_has_message
}

// Look at the oldest message from `seat` (for a worker: to it). It stays in the lane
// until wp_message_done.
//
// Caller:   the receiver.
// Returns:  its kind; WP_MESSAGE_NONE when there is none.
static inline enum wp_message_kind wp_message_look(struct wp_view *view, struct wp_lane *lane, struct wp_message *m) {
    struct wp_lane_record record;
    enum wp_lane_outcome outcome = wp_lane_peek(lane, &record);
    *m = (struct wp_message){.lease = WP_NO_LEASE, .kind = WP_MESSAGE_NONE};
    if (outcome == WP_LANE_EMPTY) return m->kind;
    m->kind = WP_MESSAGE_CORRUPT;
    if (outcome != WP_LANE_OK) return m->kind;
    m->bytes = record.bytes;
    m->size = record.size;
    if (record.kind == WP_MESSAGE_BODY) {
        m->kind = WP_MESSAGE_BODY;
    } else if (record.kind == WP_MESSAGE_BLOCK && record.size == sizeof(struct wp_message_block)) {
        struct wp_message_block body;
        memcpy(&body, record.bytes, sizeof body);
        m->bytes = wp_arena_at(&view->arena, body.block, body.bytes);
        m->size = body.bytes;
        if (m->bytes != NULL) m->block = body.block, m->kind = WP_MESSAGE_BLOCK;
    } else if (record.kind == WP_MESSAGE_PART && record.size >= sizeof m->part) {
        memcpy(&m->part, record.bytes, sizeof m->part);
        m->bytes += sizeof m->part;
        m->size -= sizeof m->part;
        m->kind = WP_MESSAGE_PART;
    }
    if (m->kind == WP_MESSAGE_CORRUPT) wp_lane_pop(lane); // a whole record of nonsense: those behind it may be good
    return m->kind;
}

// The bytes are copied: take the message out of the lane, and end its block.
//
// The parent is never recovered, so it ends the block first. A worker's death between
// the two would end a block twice, or never: an owning lease names it meanwhile.
//
// Caller:   the receiver.
// Crash:    of a worker: before the pop the parent reads the message out as
//           undelivered, after it recovery ends the leased block. With its table of
//           leases full, a death here leaks the block.
static inline void wp_message_done(struct wp_view *view, struct wp_lane *lane, struct wp_message *m) {
    if (m->block != 0 && view->self == WP_PARENT_SEAT) wp_arena_free(&view->arena, m->block);
    if (m->block != 0 && view->self != WP_PARENT_SEAT) m->lease = wp_arena_lease(&view->arena, m->block, WP_LEASE_OWN);
    wp_lane_pop(lane);
    if (m->lease != WP_NO_LEASE)
        wp_arena_free_leased(&view->arena, m->lease);
    else if (m->block != 0 && view->self != WP_PARENT_SEAT)
        wp_arena_free(&view->arena, m->block);
}

// Read what a dead worker did not: its lane, from where it had come to.
//
// Caller:   the parent, before wp_recover; no thread of it posts there any more.
static inline struct wp_lane *wp_message_inherit(struct wp_view *view, uint32_t seat) {
    struct wp_lane *lane = &view->places[seat].to_seat;
    uint64_t tail = lane->tail;
    wp_lane_sit(lane);
    // sync lane.tail (publish): what the dead may have scribbled over it is not believed.
    wp_store_release(&lane->ends->tail, tail);
    return lane;
}

// Wait a little for room, longer each time: up to half a millisecond, in which a
// receiver that is at work reads a quarter of a lane.
//
// Caller:   the sender, without the GIL. It polls: it waits for room, for its own
//           messages, for a death and for signals at once, in several threads.
#define WP_MESSAGE_NAP_FIRST_NS INT64_C(20000)
#define WP_MESSAGE_NAP_LAST_NS INT64_C(500000)
static inline void wp_message_nap(int64_t *nap_ns) {
    if (*nap_ns == 0)
        wp_os_yield();
    else
        wp_os_sleep_ns(*nap_ns);
    *nap_ns = *nap_ns == 0 ? WP_MESSAGE_NAP_FIRST_NS : *nap_ns * 2;
    if (*nap_ns > WP_MESSAGE_NAP_LAST_NS) *nap_ns = WP_MESSAGE_NAP_LAST_NS;
}

#endif
