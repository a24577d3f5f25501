/* Single events: arrivals, departures, the end of a lock owner. Each prints its time. */
#pragma once
#include <stdbool.h>

/* Makes and registers that many connections at once, and closes them after the last reply. */
void run_arrival(unsigned count);

/* Starts a process with that many registered connections. */
void gather_crowd(unsigned count);

/* Kills that process, and waits until the daemon has closed the last of its connections. */
void run_departure(void);

/*
 * Ends a process that has registered itself, and for which another connection has acquired that many resources: kills it, or, if
 * stubborn, has it close its connection and ignore SIGTERM. Waits until the last of the files is unlinked.
 */
void run_owner_end(unsigned count, bool stubborn);

/* The same for shared resources that are names of few files. Waits until the last of the files is closed. */
void run_names_end(unsigned count);
