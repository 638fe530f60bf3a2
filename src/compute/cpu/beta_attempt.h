/* One attempt at a draw of the Beta distribution, written once over vectors of floats. Including
 * files define v16 and the v_ functions: of sixteen lanes, or of one (beta_scalar.h).
 *
 * The log of the odds of a Beta variable, less that of its mean, has the density e^psi(s) with
 *   psi(s) = b s - n log(1 + q (e^s - 1)),   b the smaller shape, n the sum of both, q = b / n
 * which is concave for every pair of shapes and 0 at its top, s = 0. So rejection needs no gamma
 * function and no case for shapes below 1: flat between the two points where the tangents at s = S
 * and s = -S cross 0, and exponential along these tangents outside (L. Devroye, "Non-uniform random
 * variate generation", 1986, VII.2.6, for a density that is log-concave). A tangent of a concave
 * function is above it wherever it touches, so S decides the speed and never the distribution. With
 * S^2 = 2 (1 / a + 1 / b), where a normal density of this curvature has its best tangents, 0.886 or
 * more of all attempts are accepted, whatever the shapes.
 *
 * Everything is written so that nothing cancels for shapes from BETA_SHAPE_MIN to BETA_SHAPE_MAX:
 * psi by the smaller shape, logarithms and exponentials less 1 to their last bits near 0. */
#include "compute/beta_key.h"

/* log(m 2^e) with f = m - 1, m from sqrt(1/2) to sqrt(2): the fit of Cephes' logf, 2 ulp. */
ALWAYS_INLINE v16 log_of_parts(v16 f, v16 e)
{
    v16 square = v_mul(f, f), p = v_set(7.0376836292e-2f);
    p = v_fma(p, f, v_set(-1.1514610310e-1f));
    p = v_fma(p, f, v_set(1.1676998740e-1f));
    p = v_fma(p, f, v_set(-1.2420140846e-1f));
    p = v_fma(p, f, v_set(1.4249322787e-1f));
    p = v_fma(p, f, v_set(-1.6668057665e-1f));
    p = v_fma(p, f, v_set(2.0000714765e-1f));
    p = v_fma(p, f, v_set(-2.4999993993e-1f));
    p = v_fma(p, f, v_set(3.3333331174e-1f));
    v16 rest = v_fma(e, v_set(-2.12194440e-4f), v_mul(v_mul(f, square), p));
    rest = v_fma(square, v_set(-0.5f), rest);
    return v_fma(e, v_set(0.693359375f), v_add(f, rest));
}

/* Of positive, normal numbers. */
ALWAYS_INLINE v16 log_of(v16 x)
{
    v16 e, m = v_split(x, &e);
    return log_of_parts(v_sub(m, v_set(1)), e);
}

/* log(1 + z): where 1 + z keeps its exponent, z is taken as it is, without 1 + z rounding it. */
ALWAYS_INLINE v16 log_plus_one(v16 z)
{
    v16 e, m = v_split(v_add(v_set(1), z), &e);
    return log_of_parts(v_where_below(v_abs(e), v_set(0.5f), z, v_sub(m, v_set(1))), e);
}

/* *power = e^s, and e^s - 1 to its last bits, for s from -87 to 88. */
ALWAYS_INLINE v16 exp_less_one(v16 s, v16 *power)
{
    v16 shifted = v_fma(s, v_set(0x1.715476p+0f), v_set(0x1.8p23f)),
        n = v_sub(shifted, v_set(0x1.8p23f));
    v16 r = v_fma(n, v_set(-0x1.62e400p-1f), s);    /* as in exp_nonpositive (vector_exp.h) */
    r = v_fma(n, v_set(-0x1.7f7d1cp-20f), r);
    v16 p = v_set(0x1.6a234ep-10f);
    p = v_fma(p, r, v_set(0x1.123a6cp-7f));
    p = v_fma(p, r, v_set(0x1.5558f4p-5f));
    p = v_fma(p, r, v_set(0x1.555490p-3f));
    p = v_fma(p, r, v_set(0x1.fffffcp-2f));
    p = v_fma(v_mul(r, r), p, r);
    v16 scale = v_add_exponent(v_set(1), shifted);
    *power = v_fma(scale, p, scale);
    return v_fma(scale, p, v_sub(scale, v_set(1)));
}

struct beta_form {
    v16 small, sum, p, q;           /* b, n, 1 - q and q of above */
    v16 left, right;                /* the flat part is from -left to right */
    v16 left_mass, right_mass;      /* of the exponentials; also 1 / slope */
};

ALWAYS_INLINE v16 beta_height(const struct beta_form *form, v16 s, v16 *power, v16 *grown)
{
    v16 held = v_min(v_max(s, v_set(-87)), v_set(80)), over = v_max(v_sub(s, held), v_set(0));
    *grown = v_mul(form->q, exp_less_one(held, power));
    v16 logarithm = v_add(log_plus_one(*grown), over);  /* beyond 80 it grows as s does */
    return v_fms(form->small, s, v_mul(form->sum, logarithm));
}

ALWAYS_INLINE struct beta_form beta_envelope(v16 alpha, v16 beta)
{
    struct beta_form form;
    v16 great = v_max(alpha, beta), one = v_set(1), power;
    form.small = v_min(alpha, beta);
    form.sum = v_add(alpha, beta);
    v16 inverse = v_div(one, form.sum);
    form.p = v_mul(great, inverse);
    form.q = v_mul(form.small, inverse);
    v16 at = v_sqrt(v_div(v_add(form.sum, form.sum), v_mul(alpha, beta)));
    v16 grown = exp_less_one(at, &power);
    v16 shrunk = v_div(grown, power);                   /* 1 - e^-S */
    v16 slope = v_div(one, v_mul(v_mul(form.small, form.p), grown));
    form.right_mass = v_mul(v_fma(form.q, grown, one), slope);
    form.left_mass = v_mul(v_fma(form.p, grown, one), slope);
    v16 rise = v_mul(form.small, at);
    v16 right = v_sub(rise, v_mul(form.sum, log_plus_one(v_mul(form.q, grown))));
    v16 shrink = log_plus_one(v_mul(v_sub(v_set(0), form.q), shrunk));
    v16 left = v_sub(v_sub(v_set(0), rise), v_mul(form.sum, shrink));
    form.right = v_max(v_fma(right, form.right_mass, at), v_set(0));
    form.left = v_max(v_fma(left, form.left_mass, at), v_set(0));
    return form;
}

ALWAYS_INLINE v16 beta_shape(v16 shape)
{
    return v_min(v_max(shape, v_set(BETA_SHAPE_MIN)), v_set(BETA_SHAPE_MAX));
}

/* One attempt by three uniform numbers: which part, where in it, and whether it stays. *kept has a
 * bit for each lane that does. `form` is that of the shapes alpha and beta. */
ALWAYS_INLINE v16 beta_attempt_in(const struct beta_form *form, v16 alpha, v16 beta,
                                  const v16 uniform[3], unsigned *kept)
{
    v16 width = v_add(form->left, form->right), both = v_add(width, form->right_mass);
    v16 part = v_mul(uniform[0], v_add(both, form->left_mass));
    v16 fall = log_of(uniform[1]), power, grown;
    v16 flat = v_sub(v_mul(uniform[1], width), form->left);
    v16 right = v_fma(fall, v_sub(v_set(0), form->right_mass), form->right);
    v16 tail = v_where_below(part, both, right, v_fms(fall, form->left_mass, form->left));
    v16 s = v_where_below(part, width, flat, tail);
    v16 envelope = v_where_below(part, width, v_set(0), fall);
    v16 height = beta_height(form, s, &power, &grown);
    *kept = v_positive(v_sub(v_sub(height, envelope), log_of(uniform[2])));
    v16 odds = v_div(v_set(1), v_add(v_set(1), grown));
    v16 least = v_min(v_mul(v_mul(form->q, power), odds), v_set(1));
    v16 rest = v_where_below(least, v_set(0.5f), v_sub(v_set(1), least), v_mul(form->p, odds));
    return v_where_below(beta, alpha, v_min(rest, v_set(1)), least);
}
