/*  systemd: tells a service manager how its service fares, by datagrams to
    $NOTIFY_SOCKET. For programs that are a service, and not for what is embedded
    in one. Without that variable everything here does nothing. One thread.     */
#pragma once
#include <sys/socket.h>
#include <sys/un.h>
#include "runtime/err.h"

typedef struct {
    int fd; // -1: nobody wants to know
    struct sockaddr_un address;
    socklen_t address_size;
    int64_t beat_us;    // between signs of life; 0: nobody waits for them
    int64_t beat_at_us; // when the next is due; -1: never
} weir_systemd;

/*  wanted false: stays silent.                                                */
void weir_systemd_open(weir_systemd *self, bool wanted);
void weir_systemd_close(weir_systemd *self);

/*  Sends lines such as "READY=1\nSTATUS=..". Never blocks; a datagram that cannot be
    sent is lost.                                                              */
void weir_systemd_say(const weir_systemd *self, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/*  The sign of life, if it is due: at half of what the watchdog allows. To be called from
    the loop whose hanging is to be found out, which wakes at beat_at_us.      */
void weir_systemd_beat(weir_systemd *self);
