/*  relay: for actors that hand whole blocks on as they are: screens them, and sends them
    through a port as its window has room. What waits meanwhile is bounded by the credit
    of the inlet, which gets back what has been handed on.                     */
#pragma once
#include "runtime/actor.h"
#include "runtime/screen.h"

typedef struct weir_relay weir_relay;

/*  To be destroyed in any case. Errors as weir_screen_new.                    */
weir_err weir_relay_new(weir_relay **self_p, weir_actor *kit, int port,
                        const weir_screen_config *screen, weir_report *report);
void weir_relay_destroy(weir_relay **self_p);

/*  For recv_block and room of the actor's class. What passes is done, the rest is
    filtered or a dead letter of the node.                                     */
void weir_relay_take(weir_relay *self, weir_entry *entry, weir_block *block);
void weir_relay_room(weir_relay *self);
