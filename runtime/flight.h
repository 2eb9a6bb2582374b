/*  flight: the blocks that are on their way between the threads of this process. A link
    sends the body of a block where it lies; who receives a body that is found here takes
    the block itself, and need not make one of what the header says. Any thread.    */
#pragma once
#include "runtime/block.h"

typedef struct weir_flight weir_flight;

/*  The block (a reference is taken) is on its way until weir_flight_end, which gives it
    back.                                                                           */
weir_flight *weir_flight_begin(weir_block *block);
void weir_flight_end(weir_flight **self_p);

/*  The block whose body this is, a reference that is the caller's; NULL: none, or several
    blocks with that body are on their way. The flight lasts while the caller has the
    message with the body.                                                          */
weir_block *weir_flight_find(const void *body, size_t size);
