/*  cat: what `weir cat` looks at: a class of readers, one for the folder of a disk store,
    one for the endpoint of a bus. Both give pages as a poller does (actors/poll.h).    */
#pragma once
#include "actors/poll.h"
#include "lua/command.h"

typedef struct weir_cat_reader weir_cat_reader;

typedef struct {
    /*  Fills a page, which is to be ended in any case before the next; its records live
        until then. Blocks; WEIR_ESTOP: a signal has come. Errors with a report.        */
    weir_err (*read)(weir_cat_reader *self, const weir_poll_request *request,
                     weir_page *page, weir_report *report);
    /*  After a page without more: until another may have some. False: a signal has come.
     */
    bool (*wait)(weir_cat_reader *self);
    void (*close)(weir_cat_reader **self_p);
} weir_cat_class;

struct weir_cat_reader {
    const weir_cat_class *class; // what a reader's own struct begins with
    uint64_t nonce;              // of the bus
    int signal_fd;               // lent
};

/*  Each opens what the first operand means. The reader is to be closed in any case, when
    there is one. Errors with a report.                                                 */
weir_err weir_cat_open_folder(weir_cat_reader **self_p, const weir_command_line *line,
                              int signal_fd, weir_report *report);
weir_err weir_cat_open_bus(weir_cat_reader **self_p, const weir_command_line *line,
                           int signal_fd, weir_report *report);
