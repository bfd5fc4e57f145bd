/* SPDX-License-Identifier: Apache-2.0
 * A driver function that does nothing. */
int cuCtxSetCurrent(void *context)
{
    return context == (void *)-1;
}
