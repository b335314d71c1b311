"""More graphs as in ``cases``: operators on texts, which pad the rows of a run to the longest, and count pieces."""

from tests.unit.engine.row_independence.cases import Case

TEXTS = "(string[N] s) => (string[N] y)"
COUNTS = "(string[N] s) => (float[N, K] y)"
TOKENS = "t = com.microsoft.Tokenizer<mark = 0, mincharnum = 1, pad_value = {}, tokenexp = {}>(s)"
SPLIT_TOKENS = TOKENS.format('"#"', '"[a-z]+"')
LETTERS = TOKENS.format('"#"', '"."')


def counted(pieces: str, *pool: str) -> str:
    """TfIdfVectorizer, of single pieces and pairs of the first two."""
    single = ", ".join(f'"{text}"' for text in pool)
    pair = ", ".join(f'"{text}"' for text in (pool * 2)[:2])
    indexes = ", ".join(map(str, range(len(pool) + 1)))
    return f"""y = TfIdfVectorizer<mode = "TF", min_gram_length = 1, max_gram_length = 2, max_skip_count = 1,
        ngram_counts = [0, {len(pool)}], ngram_indexes = [{indexes}], pool_strings = [{single}, {pair}]>({pieces})"""


PROVEN = [
    Case("StringNormalizer", TEXTS + '{ y = StringNormalizer<case_change_action = "UPPER", locale = "C">(s) }'),
    Case(
        "StringNormalizer",
        TEXTS
        + """<int64[2] line = {1, -1}, int64[1] back = {-1}> {
            a = Reshape(s, line) b = StringNormalizer<case_change_action = "LOWER", locale = "C">(a)
            y = Reshape(b, back)
        }""",
    ),
    Case("StringSplit", "(string[N, 2] s) => (int64[N, 2] y) { t, y = StringSplit(s) }", 20),
    Case("StringSplit", COUNTS + "{ t, n = StringSplit(s) " + counted("t", "a", "ab") + "}", 20),
    Case("Tokenizer", COUNTS + "{" + SPLIT_TOKENS + counted("t", "a", "ab") + "}"),
    Case("Tokenizer", COUNTS + "{" + SPLIT_TOKENS + " f = Flatten(t)" + counted("f", "a", "ab") + "}"),
    Case("Tokenizer", COUNTS + "{" + LETTERS + counted("t", "a", " ", "b") + "}"),
    Case(
        "Tokenizer",
        "(string[N, 1] s) => (float[N, K] y) {"
        + SPLIT_TOKENS
        + " f = Flatten<axis = -2>(t)"
        + counted("f", "a", "ab")
        + "}",
    ),
    Case(
        "Tokenizer",  # one of several columns
        "(string[N, 2] s) => (float[N, K] y) <int64 at = {1}> { c = Gather<axis = 1>(s, at) "
        + SPLIT_TOKENS.replace("(s)", "(c)")
        + counted("t", "b", "c")
        + "}",
    ),
    Case("MurmurHash3", "(string[N, 2] s) => (uint32[N, 2] y) { y = com.microsoft.MurmurHash3<positive = 1>(s) }"),
]
MIXING = [
    Case("StringNormalizer", TEXTS + '{ y = StringNormalizer<stopwords = ["a"], locale = "C">(s) }'),
    Case("Tokenizer", "(string[N] s) => (string[N, K] y) {" + SPLIT_TOKENS.replace("t =", "y =") + "}"),
    Case("StringSplit", "(string[N] s) => (string[N, K] y, int64[N] z) { y, z = StringSplit(s) }", 20),
    Case("TfIdfVectorizer", COUNTS + "{" + SPLIT_TOKENS + counted("t", "a", "#") + "}"),
    Case("TfIdfVectorizer", COUNTS + "{ t, n = StringSplit(s) " + counted("t", "a", "") + "}", 20),
    Case(
        "TfIdfVectorizer",
        "(string[N] s) => (float[N, K] y) { "
        + SPLIT_TOKENS.replace("mark = 0", "mark = 1")
        + counted("t", "\x02", "a")
        + "}",
    ),
    Case(
        "Flatten",
        "(string[N, 2] s) => (float[N, K] y) {"
        + SPLIT_TOKENS
        + " f = Flatten(t)"
        + counted("f", "b", "a").replace("skip_count = 1", "skip_count = 0")
        + "}",
    ),
    Case(
        "Equal",
        COUNTS.replace("float", "bool")
        + ' { w = Constant<value_strings = ["#"]>()'
        + SPLIT_TOKENS
        + " y = Equal(t, w) }",
        20,
    ),
    Case(
        "Shape",
        "(string[N] s) => (int64[N] y) <int64 two = {1}, int64 none = {0}> {"
        + SPLIT_TOKENS
        + " h = Shape(t) k = Gather(h, two) t2, n = StringSplit(s) z = Mul(n, none) y = Add(z, k) }",
        20,
    ),
]
"""Rows that share a run of one of these are answered otherwise than alone, for some texts."""

REFUSED = [
    *MIXING,
    Case("StringNormalizer", TEXTS.replace("[N]", "[N, K]") + '{ y = StringNormalizer<locale = "C">(s) }'),
    Case(
        "Flatten",
        "(string[N] s) => (float[M, K] y) {"
        + SPLIT_TOKENS
        + " f = Flatten<axis = 0>(t)"
        + counted("f", "a", "ab")
        + "}",
    ),
    Case(
        "Flatten",
        "(string[N] s) => (float[M, K] y) {"
        + SPLIT_TOKENS
        + " f = Flatten<axis = 2>(t)"
        + counted("f", "a", "ab")
        + "}",
    ),
    Case(
        "Tokenizer",
        COUNTS + "{" + SPLIT_TOKENS.replace("mark = 0", "mark = 0, lang = 2") + counted("t", "a", "ab") + "}",
    ),
]
