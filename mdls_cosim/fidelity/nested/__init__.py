"""Exact transfer matrices of tiles of linear cells by nested elimination.

The tile is cut into leaves of a few cells (`leaf`), which are joined pairwise (`block`) in a fixed order (`tree`)
until one block is left. The matrix of that block holds the effective conductances and the driver conductances
(`transfer`). One tile of N x N cells takes about 50 N^3 multiplications.

Only wire resistances enter, never wire conductances, so zero resistance needs no special case. Segments, drivers and
sense nodes may each have their own resistance. First derivatives in conductances and resistances are explicit; second
derivatives are not available. The circuit has linear two-terminal cells, open far ends of the column lines, and far
ends of the row lines that are open or driven; it has no shorts between lines.

The elimination is the multifrontal form of nested dissection (George, SIAM J. Numer. Anal. 10, 345, 1973; Duff and
Reid, ACM Trans. Math. Softw. 9, 302, 1983), written in the hybrid two-port form of circuit theory. Derivatives
follow from Tellegen's theorem (Director and Rohrer, IEEE Trans. Circuit Theory 16, 318, 1969).
"""

from mdls_cosim.fidelity.nested.transfer import drawn_conductances, effective_conductances

__all__ = ["drawn_conductances", "effective_conductances"]
