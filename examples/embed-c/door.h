/*  door: what this program had before it got a bus: a SIGINT handler, a zauth, and three
    workers, zactors that are handed readings through a CURVE socket.                */
#pragma once
#include <czmq.h>

extern volatile sig_atomic_t interrupted; // by SIGINT

/*  Starts the workers, each of which calls use () in its own thread, reading by reading.
    Readings are sent into the socket that it gives, which ends with the door.       */
typedef void(door_use)(const char *reading);
zsock_t *door_open(door_use *use);
void door_close(void); // the workers have ended when it returns
