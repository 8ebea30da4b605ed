/* park.pml - going to sleep without missing work: csrc/wp_wake.h.
   SPDX-License-Identifier: BSD-3-Clause

   A seat alone writes its idle and searching bits. Who wakes it swaps a token into its
   parker, and makes the futex call when the parker was armed. A searcher that finds work
   leaves the searching set and looks once more. One worker may die between any two steps;
   the parent then clears its bits and wakes everybody.

   A task ends only when one for each worker is taken (or a worker has died), so that a task left lying
   beside a sleeping worker is a hang: work is conserved, not merely done at last. A lost
   wake-up is a state in which nobody can go on; with LIVE, also a run without an end.
   In a model a fence is the order of the steps beside it.

   must pass:
   must pass: -DWAKEFIRST
   must fail: -DNORECHECK
   must fail: -DCLEARLATE
   must fail: -DIDLELATE
   must fail: -DTOKENLATE
   must fail: -DNOLOOK
   must fail: -DNOWAKEALL
   must fail: -DNOCLEAR
   must fail: -DLOOKEARLY
   must fail: -DSTOP
   long pass: -DLIVE
   long pass: -DNT=3
   long pass: -DNW=3 -DNODEATH

   WAKEFIRST   the waker ends at the first idle seat, armed or not: the chain does the rest
   NORECHECK   no second look before sleep
   CLEARLATE   the second look comes before leaving the searching set
   IDLELATE    the second look comes before the idle bit
   TOKENLATE   an old token is voided after the second look
   NOLOOK      a searcher that finds work does not look once more
   NOWAKEALL   recovery wakes by the ordinary rule only
   NOCLEAR     recovery leaves the dead seat's bits
   LOOKEARLY   the submitter reads the bits before it publishes (its fence is missing)
   NODEATH     nobody dies: for larger bounds
   STOP        a worker may be stopped for ever, not dead: a stopped searcher is relied upon.
               This is a limit of the protocol, and documented (docs/recovery.md) */
#ifndef NT
#define NT 2
#endif
#ifndef NW
#define NW 2
#endif
#if NT < NW
#define BOTH NT
#else
#define BOTH NW
#endif
#define B(i) (1 << (i))
#define ALL 15
#ifdef STOP
#define ANYDEAD (dead[1] || dead[2])
#define HELD (inhand[1] * dead[1] + inhand[2] * dead[2])
#else
#define ANYDEAD anydead
#define HELD 0
#endif
#define TOKEN 1
#define ARMED 2

byte q = 0;                 /* READY tasks with a hint */
byte idle = 0, srch = 0;    /* one bit for each seat */
byte park[NW + 1];
bit asleep[NW + 1];         /* in the kernel */
bit inhand[NW + 1], dead[NW + 1], gone[NW + 1];
byte taken = 0, ndone = 0;
bit anydead = 0, allok = 0;

inline unpark(s) {
  atomic { old = park[s]; park[s] = TOKEN };
  woke = 0;
  if :: (old & ARMED) -> asleep[s] = 0; woke = 1 :: else fi }

inline wake_any() {
  i = 1;
  do :: i > NW -> break
     :: else ->
        if :: (idle & B(i)) -> unpark(i);
#ifdef WAKEFIRST
              break
#else
              if :: woke -> break :: else fi
#endif
           :: else fi;
        i++
  od }

inline wake_one() { if :: srch == 0 -> wake_any() :: else fi }

proctype Worker(byte me) {
  byte i, old, w; bit woke, got;
  { srch = srch | B(me);
    do
    :: atomic { if :: q > 0 -> q--; inhand[me] = 1; taken++; got = 1 :: else -> got = 0 fi };
       if
       :: got ->
          srch = srch & (ALL - B(me));
#ifndef NOLOOK
          if :: idle != 0 -> if :: q > 0 -> wake_one() :: else fi :: else fi;
#endif
          (taken >= BOTH || ANYDEAD);                       /* user code */
          atomic { inhand[me] = 0; ndone++ };
          srch = srch | B(me)
       :: else ->
#ifndef TOKENLATE
          park[me] = park[me] & ARMED;
#endif
          park[me] = park[me] | ARMED;
#ifndef IDLELATE
          idle = idle | B(me);
#endif
#ifndef CLEARLATE
          srch = srch & (ALL - B(me));
#endif
#ifdef NORECHECK
          got = 0;
#else
          got = q > 0;
#endif
#ifdef IDLELATE
          idle = idle | B(me);
#endif
#ifdef CLEARLATE
          srch = srch & (ALL - B(me));
#endif
#ifdef TOKENLATE
          park[me] = park[me] & ARMED;
#endif
          if
          :: got -> skip
          :: else ->
             do :: w = park[me];
                   if :: (w & TOKEN) -> break
                      :: else -> atomic { if :: park[me] == w -> asleep[me] = 1 :: else fi };
end_asleep:                      (asleep[me] == 0)
                   fi
             od
          fi;
          srch = srch | B(me);
          idle = idle & (ALL - B(me));
          park[me] = 0
       fi
    od
  } unless { dead[me] };
  gone[me] = 1 }

#ifndef NODEATH
active proctype Killer() { if :: dead[1] = 1 :: dead[2] = 1 :: skip fi }
#endif

active proctype Parent() {
  byte i, n = 0, w, old; bit woke, sees;
  do
  :: n < NT ->
#ifdef LOOKEARLY
     sees = (srch == 0);
     q++; n++;
     if :: sees -> wake_any() :: else fi
#else
     q++; n++;
     wake_one()
#endif
  :: n == NT && ndone + HELD == NT -> break
#ifndef STOP
  :: !anydead && ((dead[1] && gone[1]) || (dead[2] && gone[2])) ->
     if :: dead[1] -> w = 1 :: else -> w = 2 fi;
#ifndef NOCLEAR
     idle = idle & (ALL - B(w));
     srch = srch & (ALL - B(w));
#endif
     park[w] = 0;
     if :: inhand[w] -> atomic { inhand[w] = 0; q++ } :: else fi;
#ifdef NOWAKEALL
     wake_one();
#else
     i = 1;
     do :: i > NW -> break :: else -> park[i] = TOKEN; asleep[i] = 0; i++ od;
#endif
     anydead = 1
#endif
  od;
  allok = 1 }

init { byte n = 1; do :: n > NW -> break :: else -> run Worker(n); n++ od }

#ifdef LIVE
ltl live { <> allok }
#endif
