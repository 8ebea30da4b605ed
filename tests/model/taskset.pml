/* taskset.pml - a leaf and its summary bit: csrc/wp_taskset.h.
   SPDX-License-Identifier: BSD-3-Clause

   Adders set a bit of the leaf, then the summary bit unless they see it set. Takers look
   at the summary, claim what the leaf names, clear the bit, and lower the summary when the
   leaf was seen empty: clear it, then read the leaf again. With USES a slot is used again:
   a bit found late is void, and its finder reads the state again.
   One of them may die between any two steps; recovery adds every READY slot anew.

   must pass:
   must pass: -DUSES=2 -DNA=1
   must fail: -DNOREAD
   must fail: -DREADFIRST
   must fail: -DSUMMARYFIRST
   must fail: -DNOREREAD -DUSES=1
   must fail: -DNOREADD
   must fail: -DSTOP
   long pass: -DADDER
   long pass: -DALWAYS
   long pass: -DUSES=1 -DNODEATH
   long pass: -DUSES=1 -DNA=1 -DLIVE

   ALWAYS         the adder sets the summary bit even if it sees it set
   NOREAD         the leaf is not read again after the summary bit was cleared
   READFIRST      the leaf is read before the summary bit is cleared
   SUMMARYFIRST   the adder sets the summary bit before the leaf's
   NOREREAD       the finder of a void bit does not read the state again
   NOREADD        recovery does not add READY slots again
   ADDER          an adder may die too, not only a taker
   NODEATH        nobody dies: for larger bounds
   STOP           a taker may be stopped for ever, not dead, between clearing the summary bit
                  and reading the leaf: it hides the leaf. This is a limit of the protocol,
                  and documented (docs/recovery.md) */
#ifndef NA
#define NA 2 /* adders, each with a slot of its own */
#endif
#ifndef USES
#define USES 0 /* times a slot is used again */
#endif
#define NT 2 /* takers */
#define B(i) (1 << (i))
#define ALL 15
#define FREE 0
#define READY 1
#define CLAIMED 2

byte leaf = 0;
bit summary = 0;
byte st[NA];           /* the slots' state words */
byte owner[NA];        /* of a claim: NA + taker */
byte taken = 0;        /* tasks taken */
byte given = 0;        /* tasks published */
bit dead[NA + NT], gone[NA + NT];
bit recovered = 0, allok = 0;

inline raise() {
#ifdef ALWAYS
  summary = 1
#else
  if :: summary -> skip :: else -> summary = 1 fi
#endif
}
inline add(x) {
#ifdef SUMMARYFIRST
  raise();
  leaf = leaf | B(x)
#else
  leaf = leaf | B(x);
  raise()
#endif
}
inline lower() {
#ifdef READFIRST
  found = (leaf != 0);
  summary = 0;
#else
  summary = 0;
#ifdef NOREAD
  found = 0;
#else
  found = (leaf != 0);
#endif
#endif
  if :: found -> raise() :: else fi }
inline remove(x) {
  atomic { leaf = leaf & (ALL - B(x)); found = (leaf != 0) };
  if :: found -> skip :: else -> lower() fi }

proctype Adder(byte me) {
  byte n = 0;
  { do
    :: n <= USES ->
       (st[me] == FREE);
       atomic { st[me] = READY; given++ };
       add(me);
       n++
    :: else -> break
    od
  } unless { dead[me] };
  gone[me] = 1 }

proctype Taker(byte me) {
  byte x; bit found, ok;
  {
end_idle:
    do
    :: summary ->                     /* who sleeps is woken by what sets it */
       x = 0;
       do
       :: x == NA -> break
       :: else ->
          if
          :: (leaf & B(x)) ->
             atomic { if :: st[x] == READY -> st[x] = CLAIMED; owner[x] = me; ok = 1 :: else -> ok = 0 fi };
             remove(x);
             if
             :: ok -> atomic { st[x] = FREE; owner[x] = 0; taken++ }
             :: else ->
#ifndef NOREREAD
                if :: st[x] == READY -> add(x) :: else fi
#else
                skip
#endif
             fi
          :: else
          fi;
          ok = 0; found = 0;
          x++
       od;
       x = 0; ok = 0;
       if :: leaf == 0 -> lower() :: else fi;
       found = 0
    od
  } unless { dead[me] };
  gone[me] = 1 }

#ifndef NODEATH
active proctype Killer() {
#ifdef ADDER
  if :: dead[0] = 1 :: dead[NA] = 1 :: skip fi }
#else
  if :: dead[NA] = 1 :: skip fi }
#endif
#endif

active proctype Parent() {
  byte x; bit found;
  do
  /* All that was published and is not in a stopped taker's hands was taken. */
  :: (taken == given) && ((given == NA * (USES + 1)) || dead[0]) && (recovered || (!dead[0] && !dead[NA])) -> break
#ifdef STOP
  :: dead[NA] && (taken + (owner[0] == NA) + (owner[1] == NA) == given) && given == NA * (USES + 1) -> break
#else
  :: !recovered && ((dead[0] && gone[0]) || (dead[NA] && gone[NA])) ->
     x = 0;
     do
     :: x == NA -> break
     :: else ->
        if :: dead[NA] && st[x] == CLAIMED && owner[x] == NA -> st[x] = READY; owner[x] = 0 :: else fi;
#ifndef NOREADD
        if :: st[x] == READY -> add(x) :: else fi;
#endif
        x++
     od;
     recovered = 1
#endif
  od;
  allok = 1 }

init {
  byte n = 0;
  do :: n == NA -> break :: else -> run Adder(n); n++ od;
  n = 0;
  do :: n == NT -> break :: else -> run Taker(NA + n); n++ od }

#ifdef LIVE
ltl live { <> allok }
#endif
