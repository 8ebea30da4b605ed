/* completion.pml - an outcome comes home: csrc/wp_search.h (wp_finish), wp_wake.h
   (wp_notify_home), wp_home.h (wp_home_wait, wp_home_take).
   SPDX-License-Identifier: BSD-3-Clause

   Two executors settle one task each: DONE, the completion bit, a fence, then a look at
   the home's parker and at the one handle it awaits. The home waits for one task, then for
   any, until both are harvested. One executor may die between any two steps; a recoverer
   (the parent's other thread) settles its task, sets the bit again and wakes the home.
   In a model a fence is the order of the steps beside it.

   must pass:
   must fail: -DNORECHECK
   must fail: -DAWAITEDLATE
   must fail: -DTOKENLATE
   must fail: -DLOOKEARLY
   must fail: -DBITLATE
   must fail: -DBITEARLY
   must fail: -DNODONE
   must fail: -DNOWAKEALL
   must fail: -DTAKELEAFFIRST
   must fail: -DSTOP
   long pass: -DLIVE
   long pass: -DNT=3 -DNODEATH

   NORECHECK      the home does not look again after arming
   AWAITEDLATE    the home says what it awaits after its second look
   TOKENLATE      the home voids a token after its second look
   LOOKEARLY      the executor looks at the parker before it settles (its fence is missing)
   BITLATE        the executor sets the completion bit after it has looked
   BITEARLY       the completion bit is set before the task is DONE
   NODONE         recovery does not set the bit of a DONE task again
   NOWAKEALL      recovery does not wake the home
   TAKELEAFFIRST  the home empties the leaf before it clears the summary bit
   NODEATH        nobody dies: for larger bounds
   STOP           an executor may be stopped for ever, not dead, between its token and the
                  futex call: the home sleeps on with its token. A limit of the protocol,
                  and documented (docs/recovery.md) */
#ifndef NT
#define NT 2
#endif
#define B(i) (1 << (i))
#define TOKEN 1
#define ARMED 2
#define ANY 9
#define RUNNING 0
#define DONE 1
#define FREE 2

byte leaf = 0, park = 0, awaited = 7, nh = 0;
bit summary = 0, asleep = 0, allok = 0;
byte st[NT];
bit dead[NT], gone[NT];

inline wake() {
  atomic { old = park; park = TOKEN };
  if :: (old & ARMED) -> asleep = 0 :: else -> skip fi }
inline add(x) {
  leaf = leaf | B(x);
  if :: summary -> skip :: else -> summary = 1 fi }
inline look(x) {
  p = park;
  a = ANY;
  if :: (p & ARMED) -> a = awaited :: else fi }
inline notify(x) {
  if :: (p & ARMED) && (a == ANY || a == x) -> wake() :: else fi }

proctype Executor(byte me) {
  byte p, a, old;
  {
#ifdef LOOKEARLY
    look(me);
    st[me] = DONE;
    add(me);
#else
#ifdef BITLATE
    st[me] = DONE;
    look(me);
    add(me);
#else
#ifdef BITEARLY
    add(me);
    st[me] = DONE;
#else
    st[me] = DONE;
    add(me);
#endif
    look(me);
#endif
#endif
    notify(me)
  } unless { dead[me] };
  gone[me] = 1 }

#ifndef NODEATH
active proctype Killer() { if :: dead[0] = 1 :: dead[1] = 1 :: skip fi }
#endif

#ifndef STOP
active proctype Recoverer() {
  byte w, old;
end_calm:
  if :: dead[0] && gone[0] -> w = 0 :: dead[1] && gone[1] -> w = 1 fi;
  if :: st[w] == RUNNING -> st[w] = DONE; add(w)
#ifndef NODONE
     :: st[w] == DONE -> add(w)
#endif
     :: else fi;
#ifndef NOWAKEALL
  park = TOKEN; asleep = 0
#endif
}
#endif

inline harvest() {
  y = 0;
#ifdef TAKELEAFFIRST
  atomic { y = leaf; leaf = 0 };
  summary = 0;
#else
  if :: summary -> summary = 0; atomic { y = leaf; leaf = 0 } :: else fi;
#endif
  i = 0;
  do
  :: i == NT -> break
  :: else ->
     if :: (y & B(i)) && st[i] == DONE -> st[i] = FREE; nh++ :: else fi;
     i++
  od;
  y = 0; i = 0 }

/* Wait for `h`, or for ANY. */
inline wait(h) {
#ifndef AWAITEDLATE
  awaited = h;
#endif
  park = park | ARMED; /* an old token stays: it may be another thread's call */
#ifdef NORECHECK
  ok = 0;
#else
  if :: h == ANY -> ok = summary :: else -> ok = (st[h % NT] != RUNNING) fi;
#endif
#ifdef AWAITEDLATE
  awaited = h;
#endif
#ifdef TOKENLATE
  park = park & ARMED;
#endif
  if
  :: ok -> skip
  :: else ->
     do
     :: w = park;
        if
        :: (w & TOKEN) -> break
        :: else -> atomic { if :: park == w -> asleep = 1 :: else fi };
                   (asleep == 0)
        fi
     od
  fi;
  park = 0; ok = 0; w = 0 }

active proctype Home() {
  byte y, i, w; bit ok;
  do :: st[0] != RUNNING -> break :: else -> wait(0) od;
  harvest();
  do :: nh == NT -> break
     :: else -> if :: summary -> harvest() :: else -> wait(ANY); harvest() fi
  od;
  allok = 1 }

init { byte n = 0; do :: n == NT -> break :: else -> run Executor(n); n++ od }

#ifdef LIVE
ltl live { <> allok }
#endif
