/*  bus_rows: the bytes of what a bus's state keeps. Integers are big-endian.

        table: +-----------------+------------+----------+-----------+--
               | version of map  | vnodes n   | shards s | moves m   |
               +-----------------+------------+----------+-----------+--
               0                 8            12         16          20
               --+---------------------+---------------------------------+-------------+
                 | s x (id u32, state  | m x (from u32, to u32, version  | n x (owner  |
                 | u32)                | of map u64)                     | u32)        |
               --+---------------------+---------------------------------+-------------+

        group: +---------+---------+----------+----------+------+------------+--
               | start a | start b | commit a | commit b | shed | failures f |
               +---------+---------+----------+----------+------+------------+--
               0         8         16         24         32     40           44
               --+---------------------------------+
                 | f x (a u64, b u64, failures u32)|
               --+---------------------------------+

        fences: any number of (from u32, last a u64, last b u64, to u32, first a u64,
                first b u64)                                                        */
#pragma once
#include "actors/bus_state.h"

/*  Append.                                                                         */
void weir_shard_table_put(const weir_shard_table *self, weir_buffer *out);
void weir_group_row_put(const weir_group_row *self, weir_buffer *out);
void weir_fences_put(const weir_fence *list, size_t count, weir_buffer *out);

/*  Read what was put; what they give is the caller's to free. False: these bytes are
    something else, and there is nothing to free.                                   */
bool weir_shard_table_read(weir_shard_table *self, const uint8_t *data, size_t size);
bool weir_group_row_read(weir_group_row *self, const uint8_t *data, size_t size);
bool weir_fences_read(weir_fence **list, size_t *count, const uint8_t *data, size_t size);
