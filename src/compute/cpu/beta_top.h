/* The most that a draw of the Beta distribution can be, whatever is drawn: attempts beyond it are
 * refused, because none of the three numbers that one is made of is below 2^-24. Included behind
 * beta_attempt.h, over one float at a time.
 *
 * On the side where the draw grows, the envelope is the tangent t(s) = -(s - from) / mass. An
 * attempt stays where psi(s) - t(s) > log(uniform[2]) > -16.64, and its s is at most 16.64 masses
 * away. psi - t is concave and 0 at its top, so from a point on where it is below the bound all are
 * refused; that point is found by bisection, with room for what psi is rounded by. */

#define BETA_LEAST_LOG 16.64f

/* psi(s) - t(s), and the draw at s. `sign`: 1 where the draw grows with s, -1 elsewhere. */
ALWAYS_INLINE float beta_above_tangent(const struct beta_form *form, float s, float sign,
                                       float from, float mass)
{
    float power, grown;
    return beta_height(form, s, &power, &grown) + (sign * s - from) / mass;
}

ALWAYS_INLINE float beta_draw_at(const struct beta_form *form, float s, bool least_wanted)
{
    float power, grown;
    beta_height(form, s, &power, &grown);
    float odds = 1 / (1 + grown), least = v_min(form->q * power * odds, 1);
    float rest = least < 0.5f ? 1 - least : form->p * odds;
    return least_wanted ? least : v_min(rest, 1);
}

/* Of shapes that beta_shape has been over. */
ALWAYS_INLINE float beta_top(const struct beta_form *form, float alpha, float beta)
{
    float sign = beta < alpha ? -1.0f : 1.0f;
    float from = beta < alpha ? form->left : form->right;
    float mass = beta < alpha ? form->left_mass : form->right_mass;
    float near = from, far = from + (BETA_LEAST_LOG + 0.5f) * mass;
    float bound = -BETA_LEAST_LOG - 1 - 0x1p-18f * (form->small * far + form->sum * 0x1p-4f);
    for (int i = 0; i < 20; i++) {
        float middle = 0.5f * (near + far);
        bool refused = beta_above_tangent(form, sign * middle, sign, from, mass) < bound;
        near = refused ? near : middle;
        far = refused ? middle : far;
    }
    float top = beta_draw_at(form, sign * far, sign > 0) * (1 + 0x1p-18f);
    return top < 1 ? top : 1;           /* 1 as well where it is no number */
}
