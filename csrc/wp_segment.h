// wp_segment.h — the head of a shared segment, and how structures are laid behind it.
//
// Layer 1. Source: this project.
//
//   | head: 1 line | structure | pad | structure | pad | ...
//
// A segment holds offsets from its own base, never pointers: it is mapped at
// another address in every process. The parent writes the head before anyone
// else maps the segment; it is read-only from then on.
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef WP_SEGMENT_H
#define WP_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wp_config.h"

#define WP_SEGMENT_MAGIC UINT64_C(0x6c6f6f706b726f77) // "workpool", little-endian

struct wp_segment {
    uint64_t magic;
    uint32_t version;      // WP_LAYOUT_VERSION of the code that made it
    uint32_t seats;        // the parent and its workers
    uint64_t bytes;        // of the whole segment
    uint32_t parent_slots; // slots whose home is the parent
    uint32_t worker_slots; // slots of each worker
    uint32_t cpus;         // CPUs the pool may use: spinning is for when one is spare
    uint32_t polls;        // 1: every wait polls, nobody is woken by a system call
    uint64_t arena_bytes;  // budget of the payload arena
    uint8_t reserved[16];
};

_Static_assert(sizeof(struct wp_segment) == WP_CACHE_LINE, "segment layout: bump WP_LAYOUT_VERSION");

enum wp_segment_check {
    WP_SEGMENT_OK,
    WP_SEGMENT_ALIEN,   // not one of ours
    WP_SEGMENT_VERSION, // made by another release
    WP_SEGMENT_SIZE,    // the mapping and the head disagree
    WP_SEGMENT_SHAPE,   // seats or slots out of bounds
    WP_SEGMENT_MEMORY,  // no private memory for the view
};

// Reserve the next `bytes` behind *end, on a cache line of their own.
//
// Returns: the offset of the structure; *end is moved behind it.
static inline uint64_t wp_segment_carve(uint64_t *end, uint64_t bytes) {
    uint64_t offset = (*end + WP_CACHE_LINE - 1) / WP_CACHE_LINE * WP_CACHE_LINE;
    *end = offset + bytes;
    return offset;
}

// Is this mapping of `bytes` bytes a segment that this code understands?
//
// Caller: a process that has just mapped it, before it touches anything else.
static inline enum wp_segment_check wp_segment_check(const struct wp_segment *head, uint64_t bytes) {
    if (bytes < sizeof *head || head->magic != WP_SEGMENT_MAGIC) return WP_SEGMENT_ALIEN;
    if (head->version != WP_LAYOUT_VERSION) return WP_SEGMENT_VERSION;
    if (head->bytes > bytes) return WP_SEGMENT_SIZE;
    if (head->seats < 2 || head->seats > WP_MAX_SEATS || head->parent_slots < 1 || head->worker_slots < 1)
        return WP_SEGMENT_SHAPE;
    return WP_SEGMENT_OK;
}

#endif
