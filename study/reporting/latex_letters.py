"""Characters as LaTeX commands that pdfLaTeX knows without a package."""

from __future__ import annotations

import unicodedata

LATEX: dict[str, str] = {
    **{letter: f"{{{letter}}}" for letter in "[]*"},
    "|": "\\textbar{}",
    '"': "\\char34{}",
    "`": "{}\\char96{}",
    "\xa0": "~",
    "±": "\\ensuremath{\\pm}",
    "×": "\\ensuremath{\\times}",
    "÷": "\\ensuremath{\\div}",
    "−": "\\ensuremath{-}",
    "·": "\\ensuremath{\\cdot}",
    "≤": "\\ensuremath{\\leq}",
    "≥": "\\ensuremath{\\geq}",
    "≠": "\\ensuremath{\\neq}",
    "≈": "\\ensuremath{\\approx}",
    "→": "\\ensuremath{\\rightarrow}",
    "°": "\\ensuremath{^\\circ}",
    "²": "\\ensuremath{^2}",
    "³": "\\ensuremath{^3}",
    "–": "\\textendash{}",
    "—": "\\textemdash{}",
    "…": "\\ldots{}",
    "‘": "\\textquoteleft{}",
    "’": "\\textquoteright{}",
    "“": "\\textquotedblleft{}",
    "”": "\\textquotedblright{}",
    "§": "\\S{}",
    "£": "\\pounds{}",
    "©": "\\copyright{}",
    "¡": "\\textexclamdown{}",
    "¿": "\\textquestiondown{}",
    "ß": "\\ss{}",
    "Æ": "\\AE{}",
    "æ": "\\ae{}",
    "Œ": "\\OE{}",
    "œ": "\\oe{}",
    "Ø": "\\O{}",
    "ø": "\\o{}",
    "Ł": "\\L{}",
    "ł": "\\l{}",
    "Å": "\\AA{}",
    "å": "\\aa{}",
    "ı": "\\i{}",
}
"""What stands for a character. The first are ASCII: signs that mean something at the beginning of a row or to babel, or
that the oldest font encoding shows as others or joins with the sign before."""

_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030b": "H",
    "\u030c": "v",
    "\u0323": "d",
    "\u0327": "c",
    "\u0331": "b",
}
"""Accents that every font encoding of LaTeX can put on a letter."""

_GREEK = {
    **dict(zip("αβγδεζηθικλμνξπρστυφχψω", (
        *("alpha", "beta", "gamma", "delta", "varepsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu"),
        *("nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "varphi", "chi", "psi", "omega"),
    ), strict=True)),
    **dict(zip("ΓΔΘΛΞΠΣΥΦΨΩ", (
        *("Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega"),
    ), strict=True)),
    "ς": "varsigma",
    "µ": "mu",
}  # fmt: skip


def latex_letter(character: str) -> str:
    """A character as pdfLaTeX writes it; one for which it has no command is given back.

    Args:
        character: one character; ASCII that LaTeX reads as markup everywhere has been escaped before.
    """
    if character in LATEX:
        return LATEX[character]
    if character in _GREEK:
        return f"\\ensuremath{{\\{_GREEK[character]}}}"
    if character.isascii():
        return character
    base, *accents = tuple(unicodedata.normalize("NFD", character))
    if len(accents) == 1 and base.isascii() and base.isalpha() and accents[0] in _ACCENTS:
        letter = f"\\{base}{{}}" if base in "ij" else base
        return f"\\{_ACCENTS[accents[0]]}{{{letter}}}"
    return character
