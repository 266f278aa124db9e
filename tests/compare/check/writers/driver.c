/* Records what a script says: driver OUT SCRIPT NUMBERS. A line is `step N`, `tensor NAME DTYPE SIZE RANK SIZES...`, whose
   numbers come next in the file NUMBERS, or one of the mistakes that only C can make, `null`, `huge`, `dtype`, `rank`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backproof_record.h"

static const char *const DTYPES[] = {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"};

static void tensor(bp_recording *record, const char *name, char *rest, FILE *numbers) {
    char dtype[8];
    int size, rank, read;
    size_t shape[8] = {0}, count = 1;
    sscanf(rest, "%7s %d %d%n", dtype, &size, &rank, &read);
    for (int i = 0; i < rank; i++) {
        rest += read;
        sscanf(rest, "%zu%n", &shape[i], &read);
        count *= shape[i];
    }
    int kind = 0;
    while (strcmp(DTYPES[kind], dtype) != 0) kind++;
    unsigned char *data = malloc(count * (size_t)size + 1);
    if (fread(data, (size_t)size, count, numbers) != count) exit(9);
    if (rank == 0) bp_scalar(record, name, (bp_dtype)kind, data);
    else if (rank == 1) bp_vector(record, name, (bp_dtype)kind, data, shape[0]);
    else if (rank == 2) bp_matrix(record, name, (bp_dtype)kind, data, shape[0], shape[1]);
    else bp_tensor(record, name, (bp_dtype)kind, data, rank, shape);
    free(data);
}

int main(int count, char **arguments) {
    if (count != 4) return 9;
    FILE *script = fopen(arguments[2], "r"), *numbers = fopen(arguments[3], "rb");
    char line[4096], command[16], name[2048];
    int read;
    bp_recording record;
    bp_open(&record, arguments[1]);
    while (fgets(line, sizeof line, script)) {
        if (sscanf(line, "%15s %2047s%n", command, name, &read) != 2) return 9;
        size_t huge[2] = {(size_t)-1, 8};
        if (strcmp(command, "step") == 0) bp_step(&record, atol(name));
        else if (strcmp(command, "tensor") == 0) tensor(&record, name, line + read, numbers);
        else if (strcmp(command, "null") == 0) bp_vector(&record, name, BP_F32, NULL, 3);
        else if (strcmp(command, "huge") == 0) bp_tensor(&record, name, BP_F32, huge, 2, huge);
        else if (strcmp(command, "dtype") == 0) bp_scalar(&record, name, (bp_dtype)77, huge);
        else if (strcmp(command, "rank") == 0) bp_tensor(&record, name, BP_F32, huge, -1, huge);
    }
    fclose(script);
    fclose(numbers);
    return bp_close(&record) == 0 ? 0 : 1;
}
