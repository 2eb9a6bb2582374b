/*  bus_page: a page of records as the endpoint of a bus sends it (docs/wire.md, "poll"):
    what bus_reply writes, read again. Nothing of it is believed before it is checked.  */
#pragma once
#include "actors/bus_client.h"

/*  Fills the page from the answer to a poll of a bus with this nonce. It is like one of
    weir_poller_poll, but its records have no blocks: they point into the answer.
    WEIR_EMALFORMED: the other side is wrong. To be ended in any case.                  */
weir_err weir_bus_page_read(weir_page *self, const weir_bus_answer *answer,
                            uint64_t nonce);
