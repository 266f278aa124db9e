/* A small network in C, trained by derivatives that were derived by hand, and recorded for `backproof check`:

       Z1 = x W1 + b1,  A1 = tanh(Z1),  Z2 = A1 W2 + b2,  loss = mean over examples of -log softmax(Z2)[y]

   Its only extra lines are those that begin with bp_. docs/recording.md says how to run it. */
#include <math.h>
#include <stdint.h>

#include "backproof_record.h"

enum { EXAMPLES = 32, FEATURES = 4, HIDDEN = 8, CLASSES = 3, STEPS = 3 };

static float W1[FEATURES][HIDDEN], b1[HIDDEN], W2[HIDDEN][CLASSES], b2[CLASSES];
static float dW1[FEATURES][HIDDEN], db1[HIDDEN], dW2[HIDDEN][CLASSES], db2[CLASSES];
static float x[EXAMPLES][FEATURES], A1[EXAMPLES][HIDDEN], dZ2[EXAMPLES][CLASSES], dZ1[EXAMPLES][HIDDEN];
static int32_t y[EXAMPLES];

static void fill(float *p, int count) { /* with numbers between -1 and 1 */
    static uint32_t state = 1;
    for (int i = 0; i < count; i++) {
        state = 1664525u * state + 1013904223u;
        p[i] = (float)(state >> 8) / (1 << 23) - 1;
    }
}

static float forward(void) {
    float loss = 0;
    for (int i = 0; i < EXAMPLES; i++) {
        for (int h = 0; h < HIDDEN; h++) {
            float z = b1[h];
            for (int f = 0; f < FEATURES; f++) z += x[i][f] * W1[f][h];
            A1[i][h] = tanhf(z);
        }
        float z[CLASSES], largest = -INFINITY, sum = 0;
        for (int c = 0; c < CLASSES; c++) {
            z[c] = b2[c];
            for (int h = 0; h < HIDDEN; h++) z[c] += A1[i][h] * W2[h][c];
            largest = fmaxf(largest, z[c]);
        }
        for (int c = 0; c < CLASSES; c++) sum += expf(z[c] - largest);
        loss -= (z[y[i]] - largest - logf(sum)) / EXAMPLES;
        for (int c = 0; c < CLASSES; c++) dZ2[i][c] = (expf(z[c] - largest) / sum - (c == y[i])) / EXAMPLES;
    }
    return loss;
}

static void backward(void) {
    memset(dW1, 0, sizeof dW1), memset(db1, 0, sizeof db1), memset(dW2, 0, sizeof dW2), memset(db2, 0, sizeof db2);
    for (int i = 0; i < EXAMPLES; i++) {
        for (int h = 0; h < HIDDEN; h++) {
            float dA1 = 0;
            for (int c = 0; c < CLASSES; c++) {
                dW2[h][c] += A1[i][h] * dZ2[i][c];
                dA1 += W2[h][c] * dZ2[i][c];
            }
            dZ1[i][h] = dA1 * (1 - A1[i][h] * A1[i][h]);
            db1[h] += dZ1[i][h];
            for (int f = 0; f < FEATURES; f++) dW1[f][h] += x[i][f] * dZ1[i][h];
        }
        for (int c = 0; c < CLASSES; c++) db2[c] += dZ2[i][c];
    }
}

static void descend(float *p, const float *dp, int count) {
    for (int i = 0; i < count; i++) p[i] -= 0.5f * dp[i];
}

static void record_parameters(bp_recording *record, const char *part) {
    char name[64];
    snprintf(name, sizeof name, "%s/W1", part), bp_matrix(record, name, BP_F32, W1, FEATURES, HIDDEN);
    snprintf(name, sizeof name, "%s/b1", part), bp_vector(record, name, BP_F32, b1, HIDDEN);
    snprintf(name, sizeof name, "%s/W2", part), bp_matrix(record, name, BP_F32, W2, HIDDEN, CLASSES);
    snprintf(name, sizeof name, "%s/b2", part), bp_vector(record, name, BP_F32, b2, CLASSES);
}

int main(void) {
    bp_recording record;
    bp_open(&record, "run.safetensors");
    fill(*W1, FEATURES * HIDDEN), fill(*W2, HIDDEN * CLASSES), fill(*x, EXAMPLES * FEATURES);
    for (int i = 0; i < EXAMPLES; i++) y[i] = x[i][0] > 0.3f ? 2 : x[i][1] > x[i][2];
    for (long step = 1; step <= STEPS; step++) {
        float loss = forward();
        backward();
        bp_step(&record, step);
        record_parameters(&record, "parameters");
        bp_matrix(&record, "inputs/x", BP_F32, x, EXAMPLES, FEATURES);
        bp_vector(&record, "inputs/y", BP_I32, y, EXAMPLES);
        bp_scalar(&record, "loss", BP_F32, &loss);
        bp_matrix(&record, "intermediates/Z2", BP_F32, dZ2, EXAMPLES, CLASSES);
        bp_matrix(&record, "intermediates/Z1", BP_F32, dZ1, EXAMPLES, HIDDEN);
        bp_matrix(&record, "gradients/W1", BP_F32, dW1, FEATURES, HIDDEN);
        bp_vector(&record, "gradients/b1", BP_F32, db1, HIDDEN);
        bp_matrix(&record, "gradients/W2", BP_F32, dW2, HIDDEN, CLASSES);
        bp_vector(&record, "gradients/b2", BP_F32, db2, CLASSES);
        descend(*W1, *dW1, FEATURES * HIDDEN), descend(b1, db1, HIDDEN);
        descend(*W2, *dW2, HIDDEN * CLASSES), descend(b2, db2, CLASSES);
        record_parameters(&record, "next");
        printf("step %ld: loss %.6f\n", step, (double)loss);
    }
    return bp_close(&record) == 0 ? 0 : 1;
}
