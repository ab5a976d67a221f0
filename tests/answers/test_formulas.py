"""Expressions, equations, regions, lists and matrices, however they are written."""

from __future__ import annotations

import time

import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from tunix_rt.answers.equivalence import UndecidedError, detect_type, equivalent
from tunix_rt.answers.formulas import formula_of
from tunix_rt.answers.same_formula import same_formula
from tunix_rt.answers.score import score_output

# Predicted, expected, equal. The type is given as "expression".
ROOTS = [
    (r"\sqrt{8}", r"2\sqrt{2}", True),
    ("2√2", r"\sqrt{8}", True),
    ("√8", "sqrt(8)", True),
    ("sqrt(8)", "2*sqrt(2)", True),
    ("2sqrt2", r"\sqrt 8", True),
    (r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{3}}", True),
    (r"\frac{\sqrt3}3", "1/√3", True),
    (r"\sqrt{2}+\sqrt{3}", r"\sqrt{5+2\sqrt{6}}", True),
    (r"\sqrt{2}+\sqrt{3}", r"\sqrt{5}", False),
    (r"\sqrt[3]{54}", r"3\sqrt[3]{2}", True),
    (r"\sqrt[3]{-8}", "-2", True),
    ("∛27", "3", True),
    ("cbrt(27)", "3", True),
    ("(-8)^{1/3}", "-2", True),
    (r"8^{\frac{2}{3}}", "4", True),
    (r"16^{-1/2}", r"\frac14", True),
    (r"x^{1/2}", r"\sqrt{x}", True),
    (r"x^{\frac12}", r"\sqrt{x}", True),
    (r"\sqrt{x^2}", "|x|", True),
    (r"\sqrt{x^2}", "x", False),
    (r"(x+\sqrt2)(x-\sqrt2)", "x^2-2", True),
    (r"(x-\sqrt{3})^2", r"x^2-2\sqrt3x+3", True),
    (r"(x-\sqrt{3})^2", r"x^2+3", False),
    (r"\sqrt{x}\sqrt{y}", r"\sqrt{xy}", True),
    (r"\sqrt{x+y}", r"\sqrt{x}+\sqrt{y}", False),
    (r"\sqrt{17} = \sqrt{17}", r"\sqrt{17}", True),
    (r"\sqrt{8} = 2\sqrt{2}", r"2\sqrt2", True),
    (r"\sqrt{8} = 3\sqrt{2}", r"3\sqrt2", False),
    (r"\sqrt{1+\sqrt{1+\sqrt{1+x}}}", r"\sqrt{1+\sqrt{1+\sqrt{x+1}}}", True),
    (r"\frac{-b+\sqrt{b^2-4ac}}{2a}", r"\frac{2c}{-b-\sqrt{b^2-4ac}}", True),
    (r"\sqrt{x-100}", r"\sqrt{-100+x}", True),
    (r"\sqrt{-x^2-1}", r"\sqrt{-(x^2+1)}", True),
]
POWERS = [
    ("2^x*2^y", "2^{x+y}", True),
    ("2^x*3^x", "6^x", True),
    ("(2^x)^2", "4^x", True),
    ("2^{x^2}", "4^x", False),
    ("2^x^2", "2^{(x^2)}", True),
    ("x^a x^b", "x^{a+b}", True),
    ("x^{-1}", r"\frac{1}{x}", True),
    ("e^{2x}", "(e^x)^2", True),
    ("exp(2x)", "e^{2x}", True),
    ("e^{x+1}", "e^x + 1", False),
    (r"e^{\ln x}", "x", True),
    ("x²·√x", "x^{5/2}", True),
    ("(-1)^{n+2}", "(-1)^n", True),
    ("(-1)^{n+1}", "(-1)^n", False),
    (r"\cos(n\pi)", "(-1)^n", True),
    ("n!/(n-1)!", "n", True),
    ("n!/(n-2)!", "n(n-1)", True),
    ("n!/(n-2)!", "n^2", False),
    ("(2+3)!", "120", True),
    (r"\binom{5}{2}", "10", True),
    (r"\binom{n}{2}", r"\frac{n(n-1)}{2}", True),
]
TRIGONOMETRY = [
    (r"\sin^2 x + \cos^2 x", "1", True),
    (r"\sin^2(x)+\cos^2(x)", "1", True),
    ("sin(x)^2 + cos(x)^2", "1", True),
    ("1 - sin^2 x", "cos^2 x", True),
    ("1 - sin x^2", "cos^2 x", False),
    ("sin(2x)", "2 sin x cos x", True),
    ("sin 2x", "2 sin x", False),
    ("2sinxcosx", r"\sin 2x", True),
    (r"\cos 2\theta", r"2\cos^2\theta - 1", True),
    (r"\cos(2θ)", r"\cos^2\theta-\sin^2\theta", True),
    (r"\tan x", r"\frac{\sin x}{\cos x}", True),
    (r"\sec^2 x", r"1+\tan^2 x", True),
    (r"\csc x", r"1/\sin x", True),
    (r"\cot x", r"\frac{1}{\tan x}", True),
    (r"\arctan 1", r"\frac{\pi}{4}", True),
    (r"\sin^{-1}(1)", r"\pi/2", True),
    (r"\sin^{-1} x", r"\arcsin x", True),
    (r"(\sin x)^{-1}", r"\arcsin x", False),
    (r"\arcsin x + \arccos x", r"\pi/2", True),
    (r"\sin(30^\circ)", r"\frac12", True),
    ("sin(30°)", "0.5", True),
    (r"\sin(30)", "1/2", False),
    ("180°", r"\pi", True),
    ("60°", r"\frac{\pi}{3}", True),
    ("60", r"\frac{\pi}{3}", False),
    (r"\sin\frac{\pi}{6}", "1/2", True),
    (r"\cos\frac{\pi}{5}", r"\frac{1+\sqrt5}{4}", True),
    (r"\cosh^2 x-\sinh^2 x", "1", True),
    (r"\operatorname{sin}(x)", r"\sin x", True),
    (r"\sin x + \cos x", r"\sqrt2\sin(x+\frac{\pi}{4})", True),
]
LOGARITHMS = [
    (r"\log_2 8", "3", True),
    (r"\log_{2}{8}", "3", True),
    (r"\log_{2}(8)", "3", True),
    (r"\log 100", "2", True),
    (r"\log_{10} 1000", "3", True),
    (r"\ln e^3", "3", True),
    (r"\ln(x^2)", r"2\ln x", True),
    (r"\ln(xy)", r"\ln x+\ln y", True),
    (r"\ln(x+y)", r"\ln x+\ln y", False),
    (r"\ln 8", r"3\ln 2", True),
    (r"\frac{\ln 8}{\ln 2}", "3", True),
    (r"\log_3 x", r"\frac{\ln x}{\ln 3}", True),
    (r"\log x", r"\ln x", False),
    ("ln(2)", r"-\ln\frac12", True),
    ("lnx", r"\ln(x)", True),
]
PI_AND_DECIMALS = [
    (r"2\pi", "2π", True),
    ("pi*r^2", r"\pi r^2", True),
    (r"25\pi", r"\pi\cdot 5^2", True),
    (r"\frac{4}{3}\pi r^3", "4πr³/3", True),
    ("3.14159265", r"\pi", True),
    ("3.14", r"\pi", False),
    ("1.41421356", r"\sqrt{2}", True),
    ("1.41", r"\sqrt{2}", False),
    (r"\approx 1.41421356", r"\sqrt{2}", True),
    (r"x \approx 1.41421356", r"\sqrt{2}", True),
    ("0.5", r"\frac{1}{2}", True),
    (r"e^{\pi\sqrt{163}}", "262537412640768744", False),
    ("2.718281828", "e", True),
]
COMPLEX = [
    ("i^2", "-1", True),
    ("(1+i)^2", "2i", True),
    ("(1+i)(1-i)", "2", True),
    (r"\sqrt{-4}", "2i", True),
    (r"e^{i\pi}", "-1", True),
    (r"e^{i\pi}+1", "0", True),
    (r"e^{ix}", r"\cos x + i\sin x", True),
    (r"\frac{1}{i}", "-i", True),
    ("3+2i", "2i+3", True),
    ("3+2i", "3-2i", False),
    (r"\frac{1+i\sqrt3}{2}", r"e^{i\pi/3}", True),
]
EQUATIONS = [
    ("x = 5", "5", True),
    (r"x = \sqrt{5}", r"\sqrt5", True),
    (r"\sqrt5 = x", r"x=\sqrt{5}", True),
    (r"x=\sqrt5", r"y=\sqrt5", False),
    (r"2x+4=10", "x=3", False),
    ("x^2 = 5", r"x=\pm\sqrt5", False),
    ("y=2x+1", "2x+1", True),
    ("f(x) = \\sqrt{x}", r"\sqrt{x}", True),
    ("4x-2y=6", "2x-y=3", True),
    ("y = 2x - 3", "2x - y = 3", True),
    ("2x - y = 4", "2x - y = 3", False),
    ("x^2+y^2=4", "2x^2+2y^2-8=0", True),
    ("x^2+y^2=4", "x^2-y^2=4", False),
    (r"A = \pi r^2 = 25\pi", r"25\pi", True),
    (r"\theta = \frac{\pi}{6}", "π/6", True),
    (r"x=2, y=\sqrt{3}", r"y=\sqrt3, x=2", True),
    (r"x=2, y=\sqrt{3}", r"x=\sqrt3, y=2", False),
    ("x=2 or x=-3", "-3, 2", True),
    ("x = 2, x = -3", r"x\in\{-3,2\}", True),
    ("2, -3", r"\{2, -3\}", True),
    ("2", r"\{2, -3\}", False),
    (r"\sin^2x+\cos^2x = y", "y = 1", True),
]
PLUS_MINUS = [
    (r"x = \pm 2", "x=2, x=-2", True),
    ("±2", r"\{2,-2\}", True),
    ("2 or -2", r"\pm 2", True),
    ("2", r"\pm 2", False),
    (r"\frac{1\pm\sqrt5}{2}", r"\frac{1+\sqrt5}{2}, \frac{1-\sqrt5}{2}", True),
    (r"1 \pm \sqrt{2}", r"1+\sqrt2 \text{ or } 1-\sqrt2", True),
    (r"1 \mp \sqrt{2}", r"1\pm\sqrt2", True),
    (r"\pm i", "i, -i", True),
    (r"\pm\sqrt{3}", r"\pm\frac{3}{\sqrt3}", True),
    (r"\pm\sqrt{3}", r"\sqrt3, -\sqrt2", False),
]
REGIONS = [
    (r"(-\infty, 3)", "x < 3", True),
    ("(-∞,3]", "x<3", False),
    ("x > 3", "3 < x", True),
    (r"x \geq 3", r"[3,\infty)", True),
    ("x >= 3", r"x\ge3", True),
    ("x > 3", r"x\ge3", False),
    (r"x \in [2,5)", "2 ≤ x < 5", True),
    ("5 > x >= 2", "[2, 5)", True),
    ("x>2 and x<5", "(2,5)", True),
    ("x > 2, x < 5", "2 < x < 5", True),
    ("x<2 or x>5", r"(-\infty,2)\cup(5,\infty)", True),
    (r"(5,\infty)\cup(-\infty,2)", r"(-\infty,2)\cup(5,\infty)", True),
    ("x<2 or x>5", "2<x<5", False),
    ("[1,2]", "(1,2)", False),
    ("[1,2)", "[1,2)", True),
    (r"[1,\sqrt4)", "[1,2)", True),
    (r"\left[\frac12,\infty\right)", "x ≥ 0.5", True),
    (r"x \ne 3", r"(-\infty,3)\cup(3,\infty)", True),
    (r"x \neq 3", r"x \neq 4", False),
    (r"\{x \mid x > 3\}", r"(3,\infty)", True),
    (r"\{x \in \mathbb{R} : x > 3\}", "x>3", True),
    (r"\mathbb{R}", r"(-\infty,\infty)", True),
    (r"(-\infty,\infty)", r"(-\infty,0)", False),
    ("y > x", "x < y", True),
    ("2x-y<3", "y>2x-3", True),
    ("2x-y<3", "y<2x-3", False),
    ("x > 3", "y > 3", False),
    (r"x < 3", "3", False),
]
LISTS_AND_MATRICES = [
    (r"(\sqrt{8}, 1)", r"(2\sqrt2, 1)", True),
    (r"(1, \sqrt{8})", r"(2\sqrt2, 1)", False),
    (r"\left(\frac{1}{2}, \frac{\sqrt3}{2}\right)", r"(\cos 60^\circ, \sin 60^\circ)", True),
    (r"(x,y) = (1,\sqrt4)", "(1,2)", True),
    (r"\{\sqrt{4}, 3\}", r"\{3, 2\}", True),
    (r"\{\sqrt{4}, 3\}", r"\{3, 4\}", False),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{bmatrix} 1 & 2 \\ 3 & 4 \end{bmatrix}", True),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&2\\3&5\end{pmatrix}", False),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&3\\2&4\end{pmatrix}", False),
    (r"\begin{pmatrix}1&2\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}", False),
    ("[[1,2],[3,4]]", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", True),
    (r"\begin{bmatrix}\sqrt4\\2\end{bmatrix}", "(2, 2)", True),
    (r"\begin{pmatrix}\cos\theta&-\sin\theta\\ \sin\theta&\cos\theta\end{pmatrix}",
     r"\begin{pmatrix}\cos\theta&\cos(\theta+\frac{\pi}{2})\\ \sin\theta&\cos\theta\end{pmatrix}", True),
    (r"\begin{vmatrix}1&2\\3&4\end{vmatrix}", "-2", False),
    (r"\emptyset", "∅", True),
    (r"\{\}", r"\emptyset", True),
    (r"\{0\}", r"\emptyset", False),
]  # fmt: skip
WRITING = [
    (r"$2\sqrt{2}$", r"\sqrt{8}", True),
    (r"\(2\sqrt{2}\)", r"\sqrt{8}", True),
    (r"\boxed{2\sqrt{2}}", r"\sqrt{8}", True),
    (r"\displaystyle 2\sqrt{2}.", r"\sqrt{8}", True),
    (r"2\,\sqrt{2}", r"\sqrt{8}", True),
    (r"2 \cdot \sqrt{2}", r"\sqrt{8}", True),
    ("2 × √2", "√8", True),
    ("２√２", "√8", True),
    ("−√2", "-√2", True),
    ("x₁ + √x₂", r"\sqrt{x_2}+x_1", True),
    ("x_{12}+√2", "x_{21}+√2", False),
    ("\u2063\u200b√8", "2√2", False),
    ("sqrt{2}", "√2", True),
    (r"\dfrac{\sqrt{2}}{2}", r"\tfrac1{\sqrt2}", True),
    (r"1{,}000\sqrt2", r"1000\sqrt{2}", True),
    ("the answer", r"\sqrt{2}", False),
    ("I do not know", r"\sqrt{2}", False),
    ("2√", r"2\sqrt2", False),
    ("√(2", r"\sqrt2", False),
    (r"\sqrt{2}}", r"\sqrt2", False),
]
HOSTILE = [
    ("9**9**9**9", r"\sqrt{2}", False),
    ("9^{9^{9^{9}}}", "9**9**9**9 + 1", False),
    ("2^{10000000000}", r"\sqrt2", False),
    ("10000!", r"\sqrt2", False),
    ("99999999!", r"\sqrt2", False),
    ("((((9!)!)!)!)!", r"\sqrt2", False),
    ("e^{e^{e^{e^{e^e}}}}", r"\sqrt2", False),
    (r"\sin(10^{999999})", r"\sqrt2", False),
    ("x^{99999}", r"\sqrt{x^{199998}}", False),
    ("0^{-1}", r"\sqrt2", False),
    ("1/0", r"\sqrt2", False),
    (r"\frac{1}{\sqrt{x}-\sqrt{x}}", r"\sqrt2", False),
    (r"\ln 0", r"\sqrt2", False),
    (r"\infty", r"\sqrt2", False),
    (r"\infty - \infty", r"\sqrt2", False),
    (r"\tan\frac{\pi}{2}", r"\sqrt2", False),
    ("(" * 300 + "2" + ")" * 300, r"\sqrt{4}", False),
    (r"\sqrt{" * 300 + "2" + "}" * 300, r"\sqrt{2}", False),
    ("-" * 900 + "√2", r"\sqrt{2}", True),
    ("±" * 900 + "√2", r"\sqrt{2}", False),
    ("|" * 400 + "x" + "|" * 400, r"\sqrt{2}", False),
    ("2^" * 400 + "2", r"\sqrt{2}", False),
    ("√" * 400 + "2", r"\sqrt{2}", False),
    ("+".join(["√2"] * 300), r"300\sqrt{2}", True),
    ("+".join(["√2"] * 5000), r"5000\sqrt{2}", False),
    ("9" * 5000, r"\sqrt{2}", False),
    ("1±" * 400 + "1", r"\sqrt{2}", False),
    ("{" * 500, r"\sqrt{2}", False),
    ("__import__('os')", r"\sqrt{2}", False),
    ("__import__('os').system('id')", "__import__('os')", False),
    ("exec(open('x'))", r"\sqrt{2}", False),
    ("lambda: 1", r"\sqrt{2}", False),
    ("x.__class__", r"\sqrt{2}", False),
    ("[x for x in (1,2)]", r"\sqrt{2}", False),
    (r"\input{/etc/passwd}", r"\sqrt{2}", False),
    (r"\def\x{\x\x}\x", r"\sqrt{2}", False),
    ("\x00√2", r"\sqrt{2}", False),
    ("٢√٢", r"\sqrt8", True),
    ("√2‮", r"\sqrt{2}", False),
    ("х√2", r"x\sqrt2", False),
]
TABLES = {
    "roots": ROOTS,
    "powers": POWERS,
    "trigonometry": TRIGONOMETRY,
    "logarithms": LOGARITHMS,
    "decimals": PI_AND_DECIMALS,
    "complex": COMPLEX,
    "equations": EQUATIONS,
    "plus-minus": PLUS_MINUS,
    "regions": REGIONS,
    "lists": LISTS_AND_MATRICES,
    "writing": WRITING,
    "hostile": HOSTILE,
}
CASES = [(name, *case) for name, table in TABLES.items() for case in table]


@pytest.mark.parametrize(("table", "predicted", "expected", "same"), CASES)
def test_expressions(table: str, predicted: str, expected: str, same: bool) -> None:
    started = time.process_time()
    assert equivalent(predicted, expected, "expression", formulas=same_formula) is same
    assert time.process_time() - started < 2.0


def test_there_are_at_least_150_cases() -> None:
    assert len({case[1:] for case in CASES}) >= 150


@pytest.mark.parametrize(
    ("expected", "answer_type"),
    [
        (r"\sqrt{2}", "expression"),
        ("2√3", "expression"),
        ("sqrt(2)/2", "expression"),
        (r"\frac{\sqrt{3}}{2}", "expression"),
        (r"\sin x", "expression"),
        (r"\log_2 3", "expression"),
        ("ln(2)", "expression"),
        ("x > 3", "expression"),
        (r"x \le 3", "expression"),
        ("-1 < x < 2", "expression"),
        ("[0, 3)", "expression"),
        (r"(-\infty, 3)", "expression"),
        (r"(-\infty,2)\cup(3,\infty)", "expression"),
        (r"\pm 2", "expression"),
        ("±√2", "expression"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", "expression"),
        ("y = 2x + 1", "expression"),
        ("e^{2x}", "expression"),
        ("(1, 2)", "list"),
        (r"\{1, 2\}", "set"),
        ("[1, 2]", "list"),
        ("x = 5", "integer"),
        ("3/4", "fraction"),
        ("$5", "currency"),
        ("5 > 3 is true", "text"),
        ("a < b > c and so on", "text"),
        ("Paris", "text"),
        ("5 m²", "integer"),
        ("1,234", "integer"),
    ],
)
def test_the_type_of_a_formula_is_detected(expected: str, answer_type: str) -> None:
    assert detect_type(expected) == answer_type


def test_items_of_a_set_may_be_formulas() -> None:
    predicted, expected = r"\{-\sqrt{8}, \sqrt{8}\}", r"\{2\sqrt2, -2\sqrt2\}"
    assert equivalent(predicted, expected, formulas=same_formula)
    assert not equivalent(r"\{\sqrt{8}\}", expected, formulas=same_formula)


def test_an_alias_may_be_a_formula() -> None:
    assert equivalent(r"\sqrt8", "about 2.83", "expression", (r"2\sqrt2",), formulas=same_formula)


def test_without_a_comparison_of_formulas_there_is_no_verdict() -> None:
    with pytest.raises(UndecidedError):
        equivalent(r"\sqrt8", r"2\sqrt2", "expression")
    with pytest.raises(UndecidedError):
        score_output(r"Answer: \sqrt8", r"2\sqrt2")


@pytest.mark.parametrize(
    ("predicted", "expected", "same"),
    [
        ("2x + 2", "2(x + 1)", True),
        (r"\sqrt2", r"\sqrt2", True),
        ("no idea", r"\sqrt2", False),
        ("x", "y", False),
    ],
)
def test_what_is_decided_otherwise_needs_none(predicted: str, expected: str, same: bool) -> None:
    assert equivalent(predicted, expected, "expression") is same


@pytest.mark.parametrize(
    "text", ["", "blue", "cost of it", "x +", "2 3", "x = = 2", "a_", "√", "f'(x)", "x;"]
)
def test_other_texts_are_no_formulas(text: str) -> None:
    assert formula_of(text) is None


def test_the_tolerance_holds_for_decimal_numbers() -> None:
    assert equivalent("1.41", r"\sqrt2", "expression", tolerance=0.01, formulas=same_formula)
    assert not equivalent(r"\frac{141}{100}", r"\sqrt2", "expression", tolerance=0.01, formulas=same_formula)


BASES = [
    "sin(x)**2 + cos(x)**2 + x",
    "sqrt(8)*x + sqrt(2)",
    "(x + sqrt(3))**3",
    "exp(2*x) - exp(x)*exp(-x)",
    "(x**2 - 2)/(x - sqrt(2))",
    "log(8)*x/log(2)",
    "sin(3*x) + tan(x)*cos(x)",
    "cosh(x)**2 - y*sinh(x)**2",
    "sqrt(5 + 2*sqrt(6))/(1 + sqrt(y**2 + 1))",
    "(x + I*y)**2",
]


@pytest.mark.parametrize("base", BASES)
def test_what_sympy_rewrites_stays_equal(base: str) -> None:
    expression = sympy.sympify(base)
    forms = [expression, sympy.expand(expression), sympy.factor(expression), sympy.simplify(expression)]
    written = [sympy.latex(each) for each in (*forms, sympy.expand(expression, trig=True))]
    for form in written:
        assert same_formula(form, written[0], 1e-6), form
        assert same_formula(written[0], form, 1e-6), form
        assert not same_formula(f"{form} + 10^{{-9}}", written[0], 1e-6), form


@pytest.mark.filterwarnings("ignore")
@given(st.text(alphabet="xyei2.,()[]{}\\^_+-*/=<|!±√π∞∪& ", max_size=40) | st.text(max_size=20))
def test_no_text_makes_the_comparison_fail(text: str) -> None:
    assert same_formula(text, r"\sqrt2", 1e-6) in (True, False)
    assert same_formula(text, text, 1e-6) in (True, False)
