# cython: language_level=3
# _c.pxd — what the glue uses of csrc/wp_pool.h, and nothing else.
#
# SPDX-License-Identifier: BSD-3-Clause
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

ctypedef uint64_t wp_handle

cdef extern from "wp_pool.h" nogil:
    ctypedef struct wp_atomic32:
        pass
    ctypedef struct wp_atomic64:
        pass
    uint64_t wp_load_relaxed(void *)
    void wp_store_relaxed(void *, uint64_t)

    enum: WP_NO_HANDLE
    enum: WP_NO_SEAT
    enum: WP_PARENT_SEAT
    enum: WP_MAX_SEATS
    enum: WP_LEASES_PARENT
    enum: WP_LEASES_WORKER
    enum: WP_INLINE_PAYLOAD_BYTES
    enum: WP_PARKER_EVENTFD
    enum: WP_MESSAGE_INLINE_BYTES
    enum: WP_MESSAGE_PART_BYTES
    enum: WP_MESSAGE_NAP_LAST_NS

    enum wp_segment_check:
        WP_SEGMENT_OK
        WP_SEGMENT_ALIEN
        WP_SEGMENT_VERSION
        WP_SEGMENT_SIZE
        WP_SEGMENT_SHAPE
        WP_SEGMENT_MEMORY
    enum wp_phase:
        WP_PHASE_FREE
        WP_PHASE_RESERVED
        WP_PHASE_READY
        WP_PHASE_CLAIMED
        WP_PHASE_RUNNING
        WP_PHASE_DONE
    enum wp_outcome:
        WP_OUTCOME_NONE
        WP_OUTCOME_OK
        WP_OUTCOME_ERROR
        WP_OUTCOME_CANCELLED
        WP_OUTCOME_DIED
        WP_OUTCOME_TIMEOUT
    enum wp_cancel: WP_CANCEL_ASKED, WP_CANCEL_FORCE, WP_CANCEL_TIME, WP_CANCEL_KILL, WP_CANCEL_ENDED
    enum wp_strength: WP_STRENGTH_NONE, WP_STRENGTH_LIGHT, WP_STRENGTH_STRONG, WP_STRENGTH_FORCE
    enum wp_wait: WP_WAIT_WOKEN, WP_WAIT_TIMEOUT, WP_WAIT_SIGNAL
    enum wp_next:
        WP_NEXT_TASK
        WP_NEXT_NOTHING
        WP_NEXT_HARVEST
        WP_NEXT_SIGNAL
        WP_NEXT_STOP
        WP_NEXT_MESSAGE
    enum wp_stop: WP_STOP_NO, WP_STOP_DRAINED, WP_STOP_NOW, WP_STOP_RETIRE
    enum wp_alloc: WP_ALLOC_OK, WP_ALLOC_FULL, WP_ALLOC_NEVER, WP_ALLOC_NO_MEMORY
    enum wp_stat: WP_STAT_COUNT
    enum wp_lease_kind: WP_LEASE_BORROW, WP_LEASE_OWN
    enum wp_borrow: WP_BORROW_OK, WP_BORROW_GONE, WP_BORROW_RECOVERING, WP_BORROW_MANY
    enum: WP_NO_LEASE
    enum: WP_SPAN_BYTES
    enum: WP_PARCEL_TAG
    enum: WP_SHARED_TAG
    enum wp_message_kind: WP_MESSAGE_NONE, WP_MESSAGE_BODY, WP_MESSAGE_PART, WP_MESSAGE_CORRUPT

    struct wp_shape:
        uint32_t seats
        uint32_t parent_slots
        uint32_t worker_slots
        uint64_t arena_bytes

    struct wp_payload:
        wp_atomic64 block
        uint64_t bytes

    uint64_t wp_payload_block(wp_payload *)
    void wp_payload_set(wp_payload *, uint64_t block, uint64_t bytes)

    struct wp_death:
        int32_t pid
        int32_t status
        uint32_t seat
        uint32_t entered

    struct wp_slot:
        wp_atomic64 state
        wp_atomic32 target
        wp_atomic32 cancel
        wp_atomic64 function
        wp_atomic64 deadline_ns
        int64_t submit_ns
        int64_t start_ns
        int64_t end_ns
        wp_payload argument
        wp_payload result
        uint32_t pre_us
        uint8_t call
        uint8_t attempt_limit
        uint8_t *bytes

    struct wp_seat:
        wp_atomic64 life
        wp_atomic64 current

    struct wp_place:
        wp_seat *seat
        uint32_t first_slot
        uint32_t slots
        int eventfd

    struct wp_spans:
        pass
    struct wp_leases:
        pass
    struct wp_arena_view:
        wp_spans spans
        uint32_t seat
        wp_leases leases
        uint32_t run_hint

    struct wp_view:
        wp_slot *slots
        wp_place *places
        wp_arena_view arena
        uint32_t self
        uint32_t seats
        uint32_t slot_count
        int64_t spin_ns
        int64_t spin_max_ns

    struct wp_late:
        wp_handle handle
        uint32_t seat
        uint32_t flags

    struct wp_lane:
        pass

    struct wp_message_part:
        uint64_t stream
        uint64_t total

    struct wp_message:
        wp_message_kind kind
        const uint8_t *bytes
        uint64_t size
        wp_message_part part

    struct wp_recovered:
        uint32_t again
        uint32_t died
        uint32_t cancelled
        uint32_t freed

    uint64_t wp_view_bytes(const wp_shape *)
    void wp_view_format(uint8_t *, const wp_shape *, uint32_t cpus, bint polls)
    wp_segment_check wp_view_open(wp_view *, uint8_t *, uint64_t, uint8_t *, uint64_t, int, uint32_t)
    void wp_view_close(wp_view *)

    wp_phase wp_state_phase(uint64_t)
    wp_outcome wp_state_outcome(uint64_t)
    uint32_t wp_state_owner(uint64_t)
    uint32_t wp_state_attempt(uint64_t)
    uint32_t wp_state_generation(uint64_t)
    uint32_t wp_target(uint32_t, wp_strength, int)
    uint32_t wp_handle_index(wp_handle)
    bint wp_slot_is_done(wp_slot *, uint64_t *)
    bint wp_slot_cancel(wp_slot *, wp_handle)
    uint32_t wp_slot_asked(wp_slot *)
    bint wp_slot_ask(wp_slot *, wp_handle, uint32_t)
    uint32_t wp_cancel_descendants(wp_view *, wp_handle, uint32_t)
    bint wp_late_next(wp_view *, uint32_t *, int64_t, int64_t *, wp_late *)
    bint wp_slot_descends(wp_view *, uint32_t, wp_handle)
    bint wp_runs_another(wp_view *, uint32_t, wp_handle)
    void wp_slot_start_clock(wp_slot *)
    void wp_end(wp_view *, uint32_t)

    void wp_home_begin(wp_view *)
    uint32_t wp_home_free_slots(const wp_view *)
    wp_handle wp_home_reserve(wp_view *)
    void wp_home_release(wp_view *, wp_handle)
    void wp_home_inherit(wp_view *, wp_slot *, uint64_t)
    void wp_home_drop_names(wp_view *, wp_slot *)
    void wp_home_set_parent(wp_view *, wp_handle, wp_handle)
    void wp_home_bind(wp_view *, wp_handle, uint32_t, uint32_t)
    bint wp_home_promote(wp_view *, wp_handle, int)
    void wp_home_submit(wp_view *, wp_handle)
    bint wp_home_has_completions(wp_view *)
    uint64_t wp_home_take(wp_view *, uint32_t *)
    void wp_home_untake(wp_view *, uint32_t)
    bint wp_home_arm(wp_view *)
    void wp_home_disarm(wp_view *)
    int64_t WP_REST_NS
    bint wp_home_may_rest(wp_view *)
    void wp_home_rest(wp_view *)
    wp_wait wp_home_wait(wp_view *, wp_handle, int64_t)
    bint wp_unpark(wp_view *, uint32_t)

    wp_next wp_next_now(wp_view *, uint32_t *)
    wp_next wp_next_wait(wp_view *, uint32_t *, int64_t)
    int64_t wp_help_mark(wp_view *)
    bint wp_help_is_wanted(wp_view *)
    void wp_help_call(wp_view *)
    void wp_help_trim(wp_view *, int64_t)
    wp_next wp_help_wait(wp_view *, wp_handle, wp_handle, int64_t, uint32_t *, int64_t)
    void wp_resume(wp_view *, uint32_t, int64_t)
    bint wp_park_arm(wp_view *, uint32_t)
    void wp_park_disarm(wp_view *)
    int64_t wp_watch_left_ns(const wp_view *, int64_t)
    void wp_search_begin(wp_view *)
    void wp_search_end(wp_view *)
    void wp_enter(wp_view *, uint32_t)
    void wp_give_up(wp_view *, uint32_t)
    void wp_leave(wp_view *, uint32_t, wp_outcome)

    void wp_seat_take(wp_view *, uint32_t, uint32_t)
    uint32_t wp_seat_next_incarnation(wp_view *, uint32_t)
    void wp_seat_due(wp_view *, uint32_t)
    bint wp_seat_is_bound(wp_view *, uint32_t)
    void wp_seats_launched(wp_view *, uint32_t)
    void wp_idle_watch(wp_view *, bint)
    bint wp_is_busy(wp_view *)
    void wp_seat_stop(wp_view *, uint32_t, wp_stop)
    void wp_seat_ready(wp_view *, uint32_t)
    bint wp_seat_is_ready(wp_view *, uint32_t, uint32_t)
    wp_handle wp_seat_current(wp_view *, uint32_t)
    uint64_t wp_seat_stat(wp_view *, uint32_t, uint32_t)
    void wp_count_phases(wp_view *, uint32_t *)

    struct wp_look:
        uint32_t pid
        uint32_t stop
        bint due
        bint ready
        bint runs
        int64_t since_ns
        uint64_t mean_ns
        uint32_t queued
        uint32_t unknown
        uint64_t known_us
    wp_segment_check wp_look_open(wp_view *, uint8_t *, uint64_t)
    void wp_look_at(const wp_view *, wp_look *)
    wp_recovered wp_recover(wp_view *, uint32_t, int32_t, int32_t)

    bint wp_home_spin(wp_view *, wp_handle)
    uint8_t *wp_message_begin(wp_view *, uint32_t, uint64_t)
    void wp_message_send(wp_view *, uint32_t)
    bint wp_message_send_block(wp_view *, uint32_t, uint64_t, uint64_t)
    bint wp_message_send_part(wp_view *, uint32_t, uint64_t, uint64_t, const uint8_t *, uint64_t)
    void wp_message_press(wp_view *, uint32_t)
    bint wp_message_is_wanted(wp_view *)
    void wp_message_listen(wp_view *, bint)
    bint wp_message_waits(wp_view *)
    uint64_t wp_message_horizon(wp_view *)
    bint wp_message_is_past(wp_view *, uint64_t)
    uint32_t wp_message_posted(wp_view *, uint32_t)
    void wp_message_again(wp_view *, uint32_t)
    void wp_message_unheard(wp_view *, uint32_t)
    wp_lane *wp_message_in(wp_view *, uint32_t)
    wp_message_kind wp_message_look(wp_view *, wp_lane *, wp_message *)
    void wp_message_done(wp_view *, wp_lane *, wp_message *)
    wp_lane *wp_message_inherit(wp_view *, uint32_t)
    void wp_message_nap(int64_t *)

    wp_alloc wp_arena_alloc(wp_arena_view *, uint64_t, uint64_t *)
    void wp_arena_free(wp_arena_view *, uint64_t)
    uint8_t *wp_arena_at(wp_arena_view *, uint64_t, uint64_t)
    uint64_t wp_arena_memory_bytes(uint64_t)
    uint64_t wp_arena_block_bytes(wp_arena_view *, uint64_t)
    uint32_t wp_arena_lease(wp_arena_view *, uint64_t, wp_lease_kind)
    void wp_arena_unlease(wp_arena_view *, uint32_t)
    void wp_arena_free_leased(wp_arena_view *, uint32_t)
    uint64_t wp_arena_trim(wp_arena_view *, uint64_t)
    void wp_arena_tidy(wp_arena_view *)

    struct wp_parcel:
        wp_atomic64 id
        uint32_t stream_bytes
        uint32_t names
    uint32_t wp_parcel_names(const wp_spans *, uint64_t, wp_atomic64 **)
    wp_atomic64 *wp_block_identity(const wp_spans *, uint64_t)
    wp_borrow wp_block_borrow(const wp_spans *, wp_leases *, uint64_t, uint64_t, uint32_t *)

    uint64_t wp_span_trim(const wp_spans *, uint64_t, uint32_t)

    struct wp_usage:
        uint64_t budget_bytes
        uint64_t committed_bytes
        uint64_t used_bytes
        uint64_t doomed_bytes
        uint64_t run_bytes
    struct wp_usage_seat:
        uint64_t used_bytes
        uint64_t held_bytes
        uint64_t leases
    void wp_usage_read(const wp_spans *, const wp_leases *, wp_usage *, wp_usage_seat *)

    int64_t wp_os_now_ns()
    int wp_os_reserve(int, int64_t, int64_t)
    int wp_os_dont_fork(void *, uint64_t)
    int wp_os_watch_parent(int, int)
