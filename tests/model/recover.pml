/* recover.pml - a deque of hints, slots as the truth, orphans: csrc/wp_deque.h,
   csrc/wp_search.h, csrc/wp_recover.h.
   SPDX-License-Identifier: BSD-3-Clause

   The owner is a home: it reserves and publishes its tasks, pushes hints of them, pops,
   and takes orphans. A thief steals and takes orphans. One of them may die between any two
   steps. The recoverer discards the dead owner's deque by a jump of both indices, frees,
   puts back or settles its slots, and gives every READY slot a hint among the orphans.
   Then a new incarnation publishes one more task on the same deque.
   Who sees nothing sleeps, so that a lost task is a state in which nobody can go on.
   Law: every published task has exactly one outcome, and ran at most as often as allowed.

   must pass:
   must pass: -DRETRY
   must fail: -DKEEPIDX
   must fail: -DNODISCARD
   must fail: -DNOSCAN
   must fail: -DRERUN
   must fail: -DPUSHEARLY
   must fail: -DENTERLATE
   long pass: -DPLAINTOP
   long pass: -DCLEARFIRST
   long pass: -DLIVE
   long pass: -DNO=3

   RETRY       a task may be entered twice: RUNNING goes back to READY once
   CLEARFIRST  the taker of an orphan clears the bit before it claims: recovery puts it back
   KEEPIDX     recovery sets bottom to max(bottom, top), and does not jump
   NODISCARD   recovery leaves the deque as it is
   NOSCAN      recovery does not give READY slots a hint
   RERUN       recovery takes RUNNING for CLAIMED
   PUSHEARLY   the hint is pushed before the slot is READY
   ENTERLATE   RUNNING is said after user code was entered
   PLAINTOP    recovery stores top instead of raising it by CAS: no thief gets as far as the jump */
#ifndef NO
#define NO 2 /* tasks of the owner */
#endif
#define NT (NO + 1)
#define CAP 4
#define NIL 9
#ifdef RETRY
#define LIMIT 2
#else
#define LIMIT 1
#endif
mtype = { FREE, RESERVED, READY, CLAIMED, RUNNING, DONE, DIED };
mtype st[NT] = FREE;
byte own[NT] = NIL, runs[NT] = 0, tries[NT] = 0, outcomes[NT] = 0;
byte buf[CAP];
short top = 1, bot = 1;
bit orph[NT];
bit dead[2], gone[2];
byte settled = 0, published = 0;
bit calm = 0, over = 0, allok = 0;

#if NO == 2
#define VISIBLE (top < bot || orph[0] || orph[1] || orph[2])
#else
#define VISIBLE (top < bot || orph[0] || orph[1] || orph[2] || orph[3])
#endif

inline settle(x, how) { atomic { outcomes[x]++; settled++; st[x] = how } }

inline claim(me, x) {
  ok = 0;
  if
  :: x < NT -> atomic { if :: st[x] == READY -> st[x] = CLAIMED; own[x] = me; tries[x]++; ok = 1 :: else -> skip fi }
  :: else
  fi }
inline run_claimed(x) {
#ifdef ENTERLATE
  runs[x]++;
  st[x] = RUNNING;
#else
  atomic { st[x] = RUNNING; runs[x]++ };
#endif
  settle(x, DONE) }
inline take_orphan(me) {
  h = 0;
  do
  :: h < NT ->
     if
     :: orph[h] ->
#ifdef CLEARFIRST
        orph[h] = 0;
        claim(me, h);
#else
        claim(me, h);
        orph[h] = 0;
#endif
        if
        :: ok -> run_claimed(h)
        :: else ->
           if :: st[h] == READY -> orph[h] = 1 :: else fi
        fi
     :: else
     fi;
     h++
  :: else -> break
  od;
  h = 0; ok = 0 }
inline steal(me) {
  t = top; b = bot;
  if
  :: t < b ->
     x = buf[t % CAP];
     atomic { if :: top == t -> top = t + 1; ok = 1 :: else -> ok = 0 fi };
     if :: ok -> claim(me, x); if :: ok -> run_claimed(x) :: else fi :: else fi
  :: else
  fi;
  t = 0; b = 0; x = 0; ok = 0 }
inline push(x) { buf[bot % CAP] = x; bot = bot + 1 }
inline pop(me) {
  if
  :: top >= bot -> skip
  :: else ->
     b = bot - 1; bot = b; t = top;
     ok = 1;
     if
     :: t < b -> x = buf[b % CAP]
     :: else ->
        ok = 0;
        if
        :: t == b -> x = buf[b % CAP]; atomic { if :: top == t -> top = t + 1; ok = 1 :: else fi }
        :: else
        fi;
        bot = b + 1
     fi;
     if :: ok -> claim(me, x); if :: ok -> run_claimed(x) :: else fi :: else fi
  fi;
  t = 0; b = 0; x = 0; ok = 0 }
inline offer(x) {
#ifdef PUSHEARLY
  push(x);
  atomic { st[x] = READY; published++ }
#else
  atomic { st[x] = READY; published++ };
  push(x)
#endif
}

active proctype Owner() {
  byte i = 0, x, h; short t, b; bit ok;
  { do :: i < NO -> st[i] = RESERVED; offer(i); i++ :: else -> break od;
    do :: !over && VISIBLE -> pop(0); take_orphan(0) :: over -> break od
  } unless { dead[0] };
  gone[0] = 1 }

active proctype Thief() {
  byte x, h; short t, b; bit ok;
  { do :: !over && VISIBLE -> steal(1); take_orphan(1) :: over -> break od } unless { dead[1] };
  gone[1] = 1 }

active proctype Killer() { if :: dead[0] = 1 :: dead[1] = 1 :: calm = 1 fi }

active proctype Recoverer() {
  byte w = NIL, i, x, h; short t, b, n; bit ok;
  if
  :: dead[0] && gone[0] -> w = 0
  :: dead[1] && gone[1] -> w = 1
  :: calm && published == NO -> goto fin
  fi;
  if
  :: w == 0 ->
#ifndef NODISCARD
#ifdef KEEPIDX
     if :: bot < top -> bot = top :: else fi
#else
     b = bot;
     do
     :: t = top;
        n = b; if :: t > n -> n = t :: else fi; n = n + CAP;
#ifdef PLAINTOP
        top = n; ok = 1;
#else
        atomic { if :: top == t -> top = n; ok = 1 :: else -> ok = 0 fi };
#endif
        if :: ok -> break :: else fi
     od;
     bot = n
#endif
#else
     skip
#endif
  :: else
  fi;
  t = 0; b = 0; n = 0; ok = 0;
  i = 0;
  do
  :: i < NO ->
     if
     :: st[i] == RESERVED && w == 0 -> st[i] = FREE
     :: st[i] == CLAIMED && own[i] == w -> st[i] = READY
     :: st[i] == RUNNING && own[i] == w ->
#ifdef RERUN
        st[i] = READY
#else
        if :: tries[i] < LIMIT -> st[i] = READY :: else -> settle(i, DIED) fi
#endif
     :: else
     fi;
#ifndef NOSCAN
     if :: st[i] == READY -> orph[i] = 1 :: else fi;
#endif
     i++
  :: else -> break
  od;
  i = 0;
  if
  :: w == 0 -> /* the new incarnation: its first hints meet the former one's slow thieves */
     offer(NO);
     do :: settled == published -> break :: settled < published && VISIBLE -> pop(2); take_orphan(2) od
  :: else
  fi;
fin:
  do
  :: settled == published && (w == 0 || published == NO) -> break
  :: VISIBLE -> steal(2); take_orphan(2)
  od;
  over = 1;
  (gone[0] && gone[1]);
  i = 0;
  do
  :: i < NT ->
     assert(st[i] == FREE || (outcomes[i] == 1 && runs[i] <= LIMIT && (st[i] != DONE || runs[i] >= 1)));
     i++
  :: else -> break
  od;
  allok = 1 }

#ifdef LIVE
ltl live { <> allok }
#endif
