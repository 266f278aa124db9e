/* backproof_record.h: records the inputs and results of training steps, so that `backproof check` can check them.

   Copy this header into your project. It is for C99 and C++, has no dependencies, and writes a .safetensors file:

       bp_recording record;
       bp_open(&record, "run.safetensors");
       for (long step = 1; step <= 2; step++) {
           bp_step(&record, step);
           bp_matrix(&record, "parameters/W1", BP_F32, W1, rows, columns);
           bp_matrix(&record, "inputs/x", BP_F32, x, examples, columns);
           bp_scalar(&record, "loss", BP_F32, &loss);
           bp_matrix(&record, "gradients/W1", BP_F32, dW1, rows, columns);
           bp_matrix(&record, "next/W1", BP_F32, W1, rows, columns);
       }
       if (bp_close(&record) != 0) return 1;

   The names in a recording:

       step.1/...                       in front of each name below if there are several steps, counted from 1
       parameters/W1   inputs/x         the first argument of the loss, and its other arguments by their names
       loss            gradients/W1     the loss and its gradients, as the step computed them
       values/h        intermediates/h  values that the loss marks with tap, and the gradients with respect to them
       next/W1                          the parameters after the update

   Arrays are written when a function is called, row by row as in C, and may change afterwards. The file appears when
   bp_close is called. Every function returns 0, or -1 after the first error, which is printed to stderr. In that case
   there is no file, not even that of an earlier run. Names are printable ASCII without quotes and backslashes.

   SPDX-License-Identifier: MIT */
#ifndef BACKPROOF_RECORD_H
#define BACKPROOF_RECORD_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* C lacks 16-bit floating-point numbers. They are given by their bits, as uint16_t. */
typedef enum { BP_F64, BP_F32, BP_F16, BP_BF16, BP_I64, BP_I32, BP_I16, BP_I8, BP_U8, BP_BOOL } bp_dtype;

typedef struct {
    char *path, *part;    /* the file, and a second one that holds the data until the header is complete */
    FILE *numbers;
    char *header;         /* the JSON text so far */
    size_t length, room;  /* of the header: used, and allocated */
    size_t of_step;       /* the position in the header at which the tensors of this step begin */
    unsigned long long at;  /* the number of bytes of data so far */
    long step;            /* 0 before the first one */
    int failed;
} bp_recording;

static inline int bp_fail(bp_recording *r, const char *name, const char *message) {
    if (!r->failed) fprintf(stderr, "backproof_record: %s: %s\n", name, message);
    r->failed = 1;
    return -1;
}

static inline int bp_append(bp_recording *r, const char *text) {
    size_t more = strlen(text);
    if (r->length + more + 1 > r->room) {
        size_t room = 2 * (r->length + more + 1);
        char *header = (char *)realloc(r->header, room);
        if (!header) return bp_fail(r, r->path, "there is no memory left for the names");
        r->header = header;
        r->room = room;
    }
    memcpy(r->header + r->length, text, more + 1);
    r->length += more;
    return 0;
}

/* Begin a recording. An older file of that name is removed, so that it is not mistaken for the new one. */
static inline int bp_open(bp_recording *r, const char *path) {
    memset(r, 0, sizeof *r);
    r->path = (char *)malloc(strlen(path) + 1);
    r->part = (char *)malloc(strlen(path) + 6);
    if (!r->path || !r->part) return bp_fail(r, path, "there is no memory left");
    strcpy(r->path, path);
    strcpy(r->part, path);
    strcat(r->part, ".part");
    remove(path);
    r->numbers = fopen(r->part, "wb+");
    if (!r->numbers) return bp_fail(r, r->part, "the file cannot be written; does its folder exist?");
    return bp_append(r, "{");
}

/* Begin step `number`: 1, 2, 3 and so on. The tensors that are recorded next belong to it. */
static inline int bp_step(bp_recording *r, long number) {
    if (r->failed) return -1;
    if (number <= r->step) return bp_fail(r, "bp_step", "the numbers of steps must increase from 1");
    if (r->step == 0 && r->length > 1) return bp_fail(r, "bp_step", "a tensor was recorded before the first step");
    r->step = number;
    r->of_step = r->length;
    return 0;
}

static inline int bp_is_a_name(const char *name) {
    static const char *const parts[] = {"parameters/", "inputs/", "gradients/", "values/", "intermediates/", "next/"};
    if (strlen(name) > 1000) return 0;
    for (const char *c = name; *c; c++)
        if (*c < ' ' || *c > '~' || *c == '"' || *c == '\\') return 0;
    if (strcmp(name, "loss") == 0) return 1;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        size_t length = strlen(parts[i]);
        if (strncmp(name, parts[i], length) == 0 && name[length]) return 1;
    }
    return 0;
}

static inline int bp_write_numbers(bp_recording *r, const void *data, size_t size, size_t count) {
    const uint16_t one = 1;
    if (*(const unsigned char *)&one == 1 || size == 1) return fwrite(data, size, count, r->numbers) == count;
    for (size_t i = 0; i < count; i++) /* the file is little-endian, and this machine is not */
        for (size_t byte = size; byte-- > 0;)
            if (fputc(((const unsigned char *)data)[i * size + byte], r->numbers) == EOF) return 0;
    return 1;
}

/* Record an array: `data` holds the product of the `dimensions` numbers in `shape`; a scalar has 0 dimensions. */
static inline int bp_tensor(
    bp_recording *r, const char *name, bp_dtype dtype, const void *data, int dimensions, const size_t *shape
) {
    static const char *const names[] = {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"};
    static const size_t sizes[] = {8, 4, 2, 2, 8, 4, 2, 1, 1, 1};
    char text[1100];
    if (r->failed) return -1;
    if (!bp_is_a_name(name)) {
        return bp_fail(r, name, "a name is loss, or begins with parameters/, inputs/, gradients/, values/, "
                                "intermediates/ or next/; it is printable ASCII without quotes and backslashes");
    }
    if ((size_t)dtype >= sizeof sizes / sizeof *sizes) return bp_fail(r, name, "there is no such dtype");
    if (dimensions < 0 || dimensions > 32) return bp_fail(r, name, "an array has 0 to 32 dimensions");
    size_t count = 1;
    for (int i = 0; i < dimensions; i++) {
        if (shape[i] && count > SIZE_MAX / sizes[dtype] / shape[i])
            return bp_fail(r, name, "the array is larger than memory; is a size negative?");
        count *= shape[i];
    }
    if (!data && count) return bp_fail(r, name, "the array is NULL");

    if (r->step > 0) snprintf(text, sizeof text, "\"step.%ld/%s\":", r->step, name);
    else snprintf(text, sizeof text, "\"%s\":", name);
    if (strstr(r->header + r->of_step, text)) return bp_fail(r, name, "the name is recorded twice in one step");
    if ((r->length > 1 && bp_append(r, ",")) || bp_append(r, text)) return -1;
    snprintf(text, sizeof text, "{\"dtype\":\"%s\",\"shape\":[", names[dtype]);
    if (bp_append(r, text)) return -1;
    for (int i = 0; i < dimensions; i++) {
        snprintf(text, sizeof text, "%s%llu", i ? "," : "", (unsigned long long)shape[i]);
        if (bp_append(r, text)) return -1;
    }
    unsigned long long end = r->at + (unsigned long long)count * sizes[dtype];
    snprintf(text, sizeof text, "],\"data_offsets\":[%llu,%llu]}", r->at, end);
    if (bp_append(r, text)) return -1;
    if (count && !bp_write_numbers(r, data, sizes[dtype], count))
        return bp_fail(r, r->part, "the numbers cannot be written; is the disk full?");
    r->at = end;
    return 0;
}

static inline int bp_scalar(bp_recording *r, const char *name, bp_dtype dtype, const void *data) {
    return bp_tensor(r, name, dtype, data, 0, NULL);
}

static inline int bp_vector(bp_recording *r, const char *name, bp_dtype dtype, const void *data, size_t length) {
    return bp_tensor(r, name, dtype, data, 1, &length);
}

static inline int bp_matrix(
    bp_recording *r, const char *name, bp_dtype dtype, const void *data, size_t rows, size_t columns
) {
    size_t shape[2];
    shape[0] = rows;
    shape[1] = columns;
    return bp_tensor(r, name, dtype, data, 2, shape);
}

static inline int bp_copy_numbers(bp_recording *r, FILE *file) {
    char block[65536];
    if (fflush(r->numbers) != 0 || fseek(r->numbers, 0, SEEK_SET) != 0) return 0;
    for (size_t got; (got = fread(block, 1, sizeof block, r->numbers)) > 0;)
        if (fwrite(block, 1, got, file) != got) return 0;
    return !ferror(r->numbers);
}

/* End the recording. The file appears, unless there was an error. Returns 0 if it does. */
static inline int bp_close(bp_recording *r) {
    if (!r->failed && r->length <= 1) bp_fail(r, r->path, "nothing was recorded");
    if (!r->failed) bp_append(r, "}");
    while (!r->failed && r->length % 8) bp_append(r, " "); /* the data begin at a multiple of eight bytes */
    if (!r->failed) {
        FILE *file = fopen(r->path, "wb");
        int whole = file != NULL;
        for (int i = 0; whole && i < 8; i++) whole = fputc((int)((uint64_t)r->length >> 8 * i & 255), file) != EOF;
        whole = whole && fwrite(r->header, 1, r->length, file) == r->length && bp_copy_numbers(r, file);
        if (file && fclose(file) != 0) whole = 0;
        if (!whole) {
            bp_fail(r, r->path, "the file cannot be written; is the disk full?");
            remove(r->path);
        }
    }
    if (r->numbers) {
        fclose(r->numbers);
        remove(r->part);
    }
    free(r->path);
    free(r->part);
    free(r->header);
    r->path = r->part = r->header = NULL;
    r->numbers = NULL;
    return r->failed ? -1 : 0;
}

#endif
