/* Eigenvectors of symmetric matrices. */
#pragma once

#include <stddef.h>

/* Of a [n][n], which is destroyed: values [n] in descending order, and vectors [n][n], one a row,
 * of length 1, the largest component of each positive. scratch [3 n]. Some n^3 multiplications; one
 * thread. What does not converge (numbers that are not finite) is left as it is. */
void eigen_symmetric(double *a, size_t n, double *values, double *vectors, double *scratch);
