import subprocess
import sys

from plum.lm.documents import history_prefix
from plum.lm.vocab import train_tokenizer


def test_the_prefix_starts_with_the_start_token_if_there_is_one():
    tokenizer = train_tokenizer(["wh = a b c"], 300)
    ids = history_prefix(tokenizer)
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids[1:]) == "wh ="
    tokenizer.bos_token = None
    assert history_prefix(tokenizer).tolist() == ids[1:].tolist()


def test_importing_it_does_not_import_transformers():
    code = "import plum.lm.documents, sys; print('transformers' in sys.modules or 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
