/* Things that happen once: arrivals, departures, the end of a lock owner. Each prints what it took. */
#pragma once
#include <stdbool.h>

/* That many connections made, registered and answered at once, then closed. */
void run_arrival(unsigned count);

/* Makes a process with that many registered connections. */
void gather_crowd(unsigned count);

/* That process is killed. Until the daemon has closed the last of its connections. */
void run_departure(void);

/*
 * A process that registers itself and for which another connection acquires that many resources ends: it is killed, or,
 * when stubborn, only closes its connection and ignores SIGTERM. Until the last of the files is unlinked.
 */
void run_owner_end(unsigned count, bool stubborn);

/* The same for shared resources that are names of few files. Until the last of the files is closed. */
void run_names_end(unsigned count);
