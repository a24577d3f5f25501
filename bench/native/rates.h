/* Loads that run for a fixed time, and report calls per second and their waits. */
#pragma once

/* REGISTER over and over on that many connections. */
void run_register(unsigned connections, double seconds);
/* ACQUIRE with AUTOCREATE, then RELEASE, a resource of its own for each connection. Both count as calls. */
void run_acquire(unsigned connections, double seconds);
/* ACQUIRE SHARED, then RELEASE, of one resource that many owners hold already. */
void run_shared(unsigned owners, double seconds);
/* Connect, REGISTER, ACQUIRE, RELEASE, close, one after the other. The whole counts as one call. */
void run_cycle(double seconds);
/*
 * REGISTER without pause on one connection, for the longest wait. Counts each call that is not answered within `timeout` seconds
 * and each lost connection, and connects again.
 */
void run_probe(double seconds, double timeout);
