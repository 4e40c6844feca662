/* What the extension offers Python. cffi reads this file too: no line may start with a number sign. */

/* The version of this interface; Python refuses an extension of another one. */
int pyc_abi (void);
