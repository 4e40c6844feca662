/* The extension: what Python calls in its own process. */
#include "native.h"

int
pyc_abi (void)
{
  return 1;
}
