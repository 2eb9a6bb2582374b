/*  jetstream_window: the server's side of sink.jetstream: the stream, and the messages on
    their way to it, in the order of their records.

        add --> TO_SEND --published--> SENT --answer--> STORED or REFUSED --take-->
                   '---again-- TO_MAKE <--none in time, or not taken--'

    A window is a base struct of the actor's: the session's thread publishes, a thread of
    libnats notes the answers, both under the mutex of its line; they wake the actor.

    Private to sink.jetstream. Functions are the actor's thread's.                    */
#pragma once
#include "actors/jetstream_port.h"
#include "actors/loads.h"

typedef enum {
    WEIR_SLOT_TO_MAKE = 0, // its message is to be made, once more
    WEIR_SLOT_TO_SEND,
    WEIR_SLOT_SENT,
    WEIR_SLOT_STORED,
    WEIR_SLOT_REFUSED, // why says why
} weir_js_slot_state;

/*  A record's place in the window.                                                  */
typedef struct {
    weir_load *load;  // it is of this one
    weir_iterator at; // before it
    natsMsg *msg;     // TO_SEND: owned; SENT: identity only
    int64_t sent_us;
    weir_js_slot_state state;
    char *why; // owned
} weir_js_slot;

typedef enum {
    WEIR_WINDOW_CLOSED = 0, // there is no session, or the stream was not looked at in it
    WEIR_WINDOW_ASKING,     // that is being done
    WEIR_WINDOW_ALONE,      // one message at a time, until one is stored
    WEIR_WINDOW_OPEN,
    WEIR_WINDOW_DRAINING, // a message was not taken: answers to those behind are awaited
    WEIR_WINDOW_WAITING,  // until again_us
} weir_js_window_state;

/*  Where the messages go. Texts are lent.                                           */
typedef struct {
    const char *stream;         // that takes them; NULL: whichever has the subject
    const char *subject;        // of a stream that is made
    int64_t replicas, dedup_us; // of that, too
    int64_t attempts;           // in a row that store nothing, then it gives up
} weir_js_target;

/*      base .. next         have places
        base .. to_send      were published, or are settled                           */
typedef struct {
    weir_js_port port;  // first; the line's mutex guards all up to `response`
    weir_js_slot *ring; // of size slots, the config's window
    uint64_t size;
    uint64_t base, next, to_send;
    uint32_t waiting; // SENT
    uint32_t remakes; // TO_MAKE below next
    uint32_t hint;    // where the next answer is expected, from base
    weir_js_window_state state;
    int64_t again_us;
    unsigned failures; // in a row
    unsigned waits;    // in a row
    uint32_t answered; // since the actor was woken for that
    int64_t woken_us;  // when it was
    char fatal[256];
    weir_js_response response;
    weir_actor *kit;
    weir_js_target target;
} weir_js_window;

/*  In init; zeroed before.                                                          */
weir_err weir_js_window_open(weir_js_window *self, weir_actor *kit,
                             const weir_js_target *target,
                             const weir_js_port_config *config, weir_report *report);
/*  Half-built ones, too.                                                            */
void weir_js_window_close(weir_js_window *self);

/*  First in a turn. Gives when the next one is due, -1: when it is woken.            */
int64_t weir_js_window_run(weir_js_window *self);

/*  Takes what is answered off its beginning, room slots at most, whose `why` is the
    caller's then. Gives their number.                                               */
size_t weir_js_window_take(weir_js_window *self, weir_js_slot *done, size_t room);

/*  What keeps it from its work is told to the vitals. False: the actor has failed.    */
bool weir_js_window_tell(weir_js_window *self);

/*  Makes the message of the slot's record once more; gives it away.                 */
typedef natsMsg *(weir_js_make)(void *arg, const weir_js_slot *slot);

/*  What was sent before, and has to be sent again. Few, and seldom: make is called under
    the mutex.                                                                      */
void weir_js_window_remake(weir_js_window *self, weir_js_make *make, void *arg);

/*  How many slots may be added; and adds some, that are TO_SEND.                     */
uint64_t weir_js_window_room(weir_js_window *self);
void weir_js_window_add(weir_js_window *self, const weir_js_slot *slots, size_t count);
