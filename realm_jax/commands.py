"""The commands of `realm-jax`: what each is called, takes and runs."""

from typing import Any, NamedTuple


class Command(NamedTuple):
  """A command.

  Attributes:
    function: 'module.function' below realm_jax.
    help: one line.
    arguments: name -> options of argparse; names without dashes are positional.
    like: 'module.function' whose settings in a gin file are meant for this
      command too.
    on_hosts: whether several processes can run it together.
    reads_gin: it takes the gin files and settings themselves, in place of what
      they bind.
  """

  function: str
  help: str
  arguments: dict[str, dict[str, Any]]
  like: str = ''
  on_hosts: bool = False
  reads_gin: bool = False


_CORPUS = {'required': True, 'help': 'folder of a prepared corpus'}
_OTHER_CORPUS = {'help': "folder of the corpus to search; the run's if absent"}
_RUN = {'required': True, 'help': 'folder of a finished run'}
_OUT = {'required': True, 'help': 'folder to write'}
_INIT = {'required': True, 'help': 'folder of a finished run to start from'}
_JSON = {
  'action': 'store_true',
  'dest': 'as_json',
  'help': 'print JSON in place of a table',
}
_QUESTIONS = {
  'required': True,
  'help': 'file of questions: {"question", "answer": [...]} a line, or SQuAD',
}

COMMANDS = {
  'almanac': Command(
    'almanac.writing.write_almanac',
    'write the embedded corpus of an invented world, with questions',
    {
      '--out': _OUT | {'dest': 'folder'},
      '--seed': {'type': int, 'help': 'of the world'},
      '--num-documents': {'type': int, 'help': 'default 3000'},
      '--edition': {'help': '2018 or 2020'},
    },
  ),
  'prepare': Command(
    'runs.prepare.prepare',
    'documents -> corpus: blocks, sentences, salient spans',
    {
      'sources': {
        'nargs': '+',
        'help': 'files or folders: MediaWiki, JSONL, SQuAD, WikiExtractor, '
        'DPR, .txt, Parquet, Arrow, block records; or tfds:NAME',
      },
      '--out': _OUT,
      '--vocab': {'help': 'a vocab.txt; trained on the documents if absent'},
      '--vocab-size': {'type': int, 'help': 'of a trained vocabulary'},
      '--block-len': {'type': int, 'help': 'most wordpieces of a block'},
      '--entities': {
        'help': 'rules, spacy, none, or hf: and a token classifier'
      },
      '--section-titles': {
        'help': 'of MediaWiki pages: drop (default), or keep as lines'
      },
      '--since': {
        'metavar': 'DATE',
        'help': 'edition of the documents, for the manifest: 2018-12-20',
      },
      '--workers': {'type': int, 'help': 'processes; one a core if absent'},
      '--runner': {'help': 'local or beam'},
      '--beam-options': {
        'action': 'append',
        'metavar': 'OPTION',
        'help': "of Beam's pipelines; may be repeated: "
        '--beam-options=--runner=FlinkRunner',
      },
    },
  ),
  'edit': Command(
    'runs.edit.edit',
    'corpus -> corpus: documents added, replaced and removed',
    {
      '--corpus': _CORPUS,
      '--out': _OUT,
      '--add': {
        'nargs': '+',
        'metavar': 'SOURCE',
        'help': 'documents, as prepare reads them; one whose title is there '
        'already replaces the old one',
      },
      '--remove': {
        'metavar': 'TITLES_FILE',
        'help': 'titles of documents to leave out, one a line',
      },
      '--ignore-missing': {
        'action': 'store_true',
        'help': 'pass over titles to remove that are not there',
      },
      '--entities': {
        'help': 'hf: and the token classifier the corpus was made with, if it '
        'was one'
      },
      '--since': {
        'metavar': 'DATE',
        'help': 'edition of the new corpus, for the manifest',
      },
      '--workers': {'type': int, 'help': 'as prepare has it'},
    },
  ),
  'inspect': Command(
    'runs.inspect_corpus.inspect_corpus',
    'show blocks and spans of a corpus, and warn of what looks wrong',
    {
      'corpus': {'help': 'folder of a prepared corpus'},
      '--examples': {'type': int, 'help': 'blocks to show; default 10'},
      '--max-checked': {'type': int, 'help': 'most blocks to read'},
      '--seed': {'type': int, 'help': 'of the choice of blocks'},
    },
  ),
  'materialise': Command(
    'runs.materialise.materialise',
    'write the examples of a seqio task, for trainers without TensorFlow',
    {
      '--corpus': _CORPUS,
      '--task': {'required': True, 'help': 'such as realm_ssm'},
      '--out': _OUT,
      '--split': {'help': 'default train'},
      '--num-epochs': {'type': int, 'help': 'default 1'},
      '--seed': {'type': int, 'help': 'of what is blanked out'},
      '--questions': {'help': 'question file of the task openqa'},
      '--module': {'help': 'Python module that registers other tasks'},
    },
  ),
  'ict': Command(
    'runs.ict.ict',
    'warm up the embedder with the inverse cloze task',
    {
      '--corpus': _CORPUS,
      '--out': _OUT,
      '--bert': {
        'help': 'BERT weights to start from: a folder, or a name on the hub'
      },
    },
    on_hosts=True,
  ),
  'pretrain': Command(
    'runs.pretrain.pretrain',
    'pre-train retriever and reader together',
    {
      '--corpus': _CORPUS,
      '--init': _INIT,
      '--out': _OUT,
      '--examples': {'help': 'folder of materialised examples to train on'},
      '--probe-questions': {'help': 'questions for the recall curve'},
      '--replay': {
        'metavar': 'RUN',
        'help': 'search at every step what this run, or served.jsonl, searched',
      },
    },
    on_hosts=True,
  ),
  'combine': Command(
    'runs.combine.combine',
    'a run with the retriever of one run and the reader of another',
    {
      '--retriever': {
        'required': True,
        'help': 'folder of the finished run whose embedders are taken',
      },
      '--reader': {
        'required': True,
        'help': 'folder of the finished run whose reader is taken',
      },
      '--out': _OUT,
    },
  ),
  'build-index': Command(
    'runs.build_index.build_index',
    'embed all blocks with a finished run, or along with one that trains',
    {
      '--run': _RUN | {'required': False},
      '--follow': {
        'metavar': 'RUN',
        'help': 'folder of a run that publishes its parameters as it trains: '
        'embed the newest until it has finished',
      },
      '--corpus': _OTHER_CORPUS,
    },
    on_hosts=True,
  ),
  'plan': Command(
    'runs.plan.plan',
    'what pre-training would need and take, before anything starts',
    {
      '--accelerator': {
        'help': 'cpu (measured now), h100, h200, a100, v3, v4, v5e, v5p, ...; '
        'what is at hand if absent'
      },
      '--num-devices': {
        'type': int,
        'help': 'how many there are of them, for a mesh to spread over',
      },
      '--num-blocks': {
        'type': int,
        'help': "of the corpus; default 13,353,718, the paper's",
      },
      '--corpus': {
        'help': 'prepared corpus to take that and the vocabulary of'
      },
      '--force': {
        'action': 'store_true',
        'help': 'print the plan of what does not fit as well',
      },
      '--json': _JSON,
    },
    like='runs.pretrain.pretrain',
  ),
  'bench index': Command(
    'runs.bench.bench_index',
    'time searches next to the floor of this machine',
    {
      '--num-blocks': {'type': int, 'help': 'made-up ones; default 1,000,000'},
      '--snapshot': {'help': 'folder of block embeddings to search instead'},
      '--batch': {'type': int, 'nargs': '+', 'help': 'default 1 64 512'},
      '--k': {'type': int, 'nargs': '+', 'help': 'default 8'},
      '--method': {'nargs': '+', 'help': "such as 'exact float32'"},
      '--rounds': {'type': int, 'help': 'default 5'},
      '--json': _JSON,
    },
  ),
  'bench step': Command(
    'runs.bench_step.bench_step',
    'time the pre-training step and its parts next to this machine',
    {
      '--num-blocks': {
        'type': int,
        'help': 'made-up ones to search; default 100,000; 0: no retrieval',
      },
      '--rounds': {'type': int, 'help': 'default 5'},
      '--json': _JSON,
    },
    like='runs.pretrain.pretrain',
  ),
  'bench embed': Command(
    'runs.bench_embed.bench_embed',
    'time the embedding of documents next to this machine',
    {
      '--corpus': {
        'help': 'folder of a corpus whose lengths are taken; made up if absent'
      },
      '--num-blocks': {'type': int, 'help': 'some seconds of work if absent'},
      '--rounds': {'type': int, 'help': 'default 5'},
      '--json': _JSON,
    },
    like='runs.pretrain.pretrain',
  ),
  'finetune': Command(
    'runs.finetune.finetune',
    'fine-tune on questions with answers',
    {
      '--corpus': _CORPUS,
      '--init': _INIT,
      '--questions': _QUESTIONS,
      '--dev-questions': {
        'help': 'other questions: the parameters that answer them best are kept'
      },
      '--out': _OUT,
    },
    on_hosts=True,
  ),
  'split-questions': Command(
    'runs.split_questions.split_questions',
    "training questions -> train and dev, by ORQA's hash",
    {'questions': {'help': 'file of questions'}, '--out': _OUT},
  ),
  'expand-answers': Command(
    'runs.expand_answers.expand_answers',
    'regular expressions as answers -> the strings they match in a corpus',
    {
      '--questions': _QUESTIONS,
      '--corpus': _CORPUS,
      '--out': {'required': True, 'help': 'question file to write'},
      '--workers': {'type': int, 'help': 'processes; one a core if absent'},
    },
  ),
  'evaluate': Command(
    'runs.evaluate.evaluate',
    'measure retrieval and answers; write metrics.json, predictions.jsonl',
    {
      '--run': _RUN,
      '--questions': _QUESTIONS,
      '--out': _OUT,
      '--corpus': _OTHER_CORPUS,
      '--ranker': {
        'help': 'retriever, bm25, gold, random, or dense: and the folder of a '
        'sentence encoder'
      },
      '--num-read': {'type': int, 'help': 'blocks read for a question'},
      '--max-questions': {'type': int, 'help': 'only the first so many'},
    },
  ),
  'sweep': Command(
    'sweeps.sweep.sweep',
    'an ablation: every cell with every seed, one table with intervals',
    {
      '--out': _OUT,
      '--corpus': {
        'help': 'folder of a prepared corpus; the almanac if absent'
      },
      '--questions': {'help': 'file of training questions'},
      '--test-questions': {'help': 'file of questions that are measured on'},
      '--probe-questions': {'help': 'questions for the recall curve'},
      '--bert': {'help': 'BERT weights that ict starts from'},
      '--stages': {
        'metavar': 'FOLDER',
        'help': 'where stages lie, for several sweeps to share; OUT/stages if '
        'absent',
      },
      '--jobs': {'type': int, 'help': 'processes at a time; default 1'},
      '--launcher': {
        'metavar': 'COMMAND',
        'help': "runs a job elsewhere: 'srun realm-jax sweep --gin FILE --out "
        "OUT --only {cell}'",
      },
      '--only': {'metavar': 'JOB', 'help': 'run this job, and nothing else'},
      '--collect-only': {
        'action': 'store_true',
        'help': 'run nothing; write the table of what has been measured',
      },
      '--dry-run': {
        'action': 'store_true',
        'help': 'print cells, shared stages and their cost; run nothing',
      },
      '--accelerator': {'help': 'that --dry-run reckons with; as plan has it'},
    },
    reads_gin=True,
  ),
  'score': Command(
    'runs.score.score',
    'count right predictions, as the evaluation of ORQA and REALM does',
    {
      'references': {'help': 'JSON lines: {"question", "answer": [...]}'},
      'predictions': {'help': 'JSON lines: {"question", "prediction"}'},
      '--regex': {
        'action': 'store_true',
        'help': 'answers are regular expressions (CuratedTREC)',
      },
      '--allow-missing': {
        'action': 'store_true',
        'help': 'count questions without a prediction as wrong',
      },
      '--json': _JSON,
    },
  ),
  'compare': Command(
    'runs.compare.compare',
    'by how much one evaluation is better than another, and how sure',
    {
      'a': {'help': 'folder of an evaluation, or its predictions.jsonl'},
      'b': {'help': 'another, of the same questions'},
      '--metrics': {'nargs': '+', 'help': 'all that both have if absent'},
      '--json': _JSON,
    },
  ),
  'ask': Command(
    'runs.ask.ask',
    'answer questions, with the documents they were read from',
    {
      'questions': {
        'nargs': '*',
        'help': 'what to ask; without any, they are asked for',
      },
      '--file': {'help': 'further questions, one a line'},
      '--run': _RUN,
      '--corpus': _OTHER_CORPUS,
      '--num-read': {'type': int, 'help': 'blocks read for a question'},
      '--top-k': {'type': int, 'help': 'different answers to show; default 1'},
      '--min-probability': {
        'type': float,
        'help': 'below it, from 0 to 1, no answer is given',
      },
      '--json': _JSON,
    },
  ),
  'import': Command(
    'runs.checkpoints.import_checkpoint',
    'make a run of the checkpoint of another program',
    {
      'kind': {'help': 'bert, hf-realm or official'},
      'paths': {
        'nargs': '+',
        'help': 'its folders, or names on the Hugging Face hub',
      },
      '--out': _OUT,
      '--corpus': {
        'help': 'folder of the corpus that its block embeddings belong to; '
        'made of block_records.npy if it is missing'
      },
      '--entities': {'help': 'in that corpus; as prepare has it'},
      '--vocab': {'help': "its vocab.txt; the folders' own if absent"},
      '--num-heads': {
        'type': int,
        'help': 'attention heads, where no configuration tells',
      },
      '--seed': {'type': int, 'help': 'of parameters that it does not have'},
    },
  ),
  'export': Command(
    'runs.checkpoints.export_checkpoint',
    'write a run as another program reads it',
    {
      'kind': {'help': 'hf-realm'},
      'run': {'help': 'folder of a finished run'},
      '--out': _OUT,
    },
  ),
  'quickstart': Command(
    'runs.quickstart.quickstart',
    'all stages on the embedded corpus, with a report',
    {
      '--out': {'help': 'folder to write; default runs/quickstart'},
      '--seeds': {'type': int, 'help': 'how many seeds to run; default 1'},
    },
  ),
}


# Of commands that several processes can run together: see realm_jax.hosts.
HOSTS: dict[str, dict[str, Any]] = {
  '--hosts': {
    'choices': ['auto'],
    'help': 'run on all hosts of this TPU pod, or Slurm or Kubernetes job: the '
    'same command on each',
  },
  '--coordinator': {
    'metavar': 'HOST:PORT',
    'help': 'elsewhere: where process 0 can be reached by the others',
  },
  '--num-processes': {'type': int, 'help': 'one a host'},
  '--process-id': {'type': int, 'help': 'of this one, from 0'},
}

GROUPS = {'bench': 'measure what has to be fast, on the machine at hand'}
