"""The second round, written before the lint had seen a verdict of the first: texts and settings."""

from __future__ import annotations

from tests.data.lint_trees.draft import (
    ANSWERS,
    CODE,
    TYPES,
    Draft,
    Link,
    Random,
    Round,
    Tree,
    some_model,
    tensor,
)

B = Round("B")
END = "\n"

# -- how a text may be written ------------------------------------------------------------------------


@B.change("text's forms", 45)
def form(rng: Random, draft: Draft) -> None:
    """A field more, written in a way that some parser may not take."""
    draft.more.append(
        rng.choice(
            [
                "dynamic_batching: { }",
                "dynamic_batching { };",
                "dynamic_batching < >",
                "dynamic_batching [ ]",
                "dynamic_batching { preferred_batch_size: [ 1; 1 ] }",
                "dynamic_batching { preferred_batch_size: 1, preferred_batch_size: 1 }",
                "dynamic_batching { preferred_batch_size [ 1 ] }",
                "dynamic_batching { preserve_ordering: True }",
                "dynamic_batching { preserve_ordering: TRUE }",
                "dynamic_batching { preserve_ordering: 0 }",
                "dynamic_batching { preserve_ordering: 2 }",
                "dynamic_batching { preserve_ordering: f }",
                "dynamic_batching { max_queue_delay_microseconds: 0x10 }",
                "dynamic_batching { max_queue_delay_microseconds: 18446744073709551615 }",
                "dynamic_batching { max_queue_delay_microseconds: 18446744073709551616 }",
                "dynamic_batching { max_queue_delay_microseconds: -0 }",
                "dynamic_batching { max_queue_delay_microseconds: 1e2 }",
                "dynamic_batching { max_queue_delay_microseconds: 100.0 }",
                "dynamic_batching { max_queue_delay_microseconds: 100us }",
                "dynamic_batching { default_queue_policy { timeout_action: 1 } }",
                "dynamic_batching { default_queue_policy { timeout_action: 7 } }",
                "dynamic_batching { default_queue_policy { timeout_action: 'DELAY' } }",
                "dynamic_batching { default_queue_policy { timeout_action: delay } }",
                "dynamic_batching { default_queue_policy { max_queue_size: -1 } }",
                "dynamic_batching { default_queue_policy { max_queue_size: 4294967296 } }",
                "sequence_batching { direct { minimum_slot_utilization: .5 } }",
                "sequence_batching { direct { minimum_slot_utilization: 1. } }",
                "sequence_batching { direct { minimum_slot_utilization: 0.5f } }",
                "sequence_batching { direct { minimum_slot_utilization: 1 } }",
                "sequence_batching { direct { minimum_slot_utilization: inf } }",
                "sequence_batching { direct { minimum_slot_utilization: nan } }",
                "sequence_batching { direct { minimum_slot_utilization: 5e-1 } }",
                "sequence_batching { direct { minimum_slot_utilization: 0x1 } }",
                "version_policy { latest { num_versions: 1 } all { } }",
                "version_policy { latest: { num_versions: 1 } }",
                "version_policy { all: true }",
                'version_policy: "all"',
                "dynamic_batching { } sequence_batching { }",
                "dynamic_batching { } dynamic_batching { }",
                "ensemble_scheduling { } dynamic_batching { }",
                "metric_tags { key: 'a' value: 'b' } metric_tags { key: 'a' value: 'c' }",
                "metric_tags [ { key: 'a', value: 'b' }, ]",
                "metric_tags { key: 'a' }",
                "metric_tags { 'a': 'b' }",
                "metric_tags { value: 'b' key: 'a' key: 'c' }",
            ]
        )
    )


@B.change("text's strings", 40)
def string(rng: Random, draft: Draft) -> None:
    text = rng.choice(
        [
            r'"\a\b\f\n\r\t\v\?\'\""',
            r'"\0"',
            r'"\377"',
            r'"\400"',
            r'"\8"',
            r'"\xZZ"',
            r'"\x4"',
            r'"\u00e9"',
            r'"\u12"',
            r'"\U0001F600"',
            r'"\U00110000"',
            r'"\ud83d\ude00"',
            r'"\ud800"',
            r'"C:\models"',
            r'"\\server\share"',
            r'"a\$b"',
            r'"\e"',
            r'"ends with \\"',
            r'"ends with \"',
            "'it''s'",
            '"one" \'two\' "three"',
            '"tab\there"',
            '"new\nline"',
            '"\u00fc\u4e2d\U0001f600"',
            '"unclosed',
            "unquoted",
            "3",
            "true",
            '["a", "b"]',
            '""',
            '"{}"',
            '"# no comment"',
            "'# no comment'",
            '"$$"',
            '"a" # comment',
            '"a"\n# comment "unclosed\n"b"',
            '"' + "x" * 5000 + '"',
            '"\x7f\x01"',
            r'"\/"',
            r"'\"'",
        ]
    )
    draft.more.append("parameters { key: 'p' value { string_value: %s } }" % text)


@B.change("text's comments", 10)
def comments(rng: Random, draft: Draft) -> None:
    mark = rng.choice(
        ["# c", "#", "// c", "/* c */", "-- c", "; c", '# "', "# {", "#\t\u00e9", "! c"]
    )
    lines = draft.render().splitlines()
    lines.insert(rng.randrange(len(lines) + 1), mark)
    draft.text = "\n".join(lines) + rng.choice(["\n", ""])


@B.change("text's head", 14)
def head_form(rng: Random, draft: Draft) -> None:
    draft.head["max_batch_size"], draft.head["backend"] = rng.choice(
        [
            ("4", "'python'"),
            ("4", '"pyt" "hon"'),
            ("4", r'"\x70ython"'),
            ("4", "python"),
            ("4,", '"python",'),
            ("4;", '"python";'),
            ("4,,", '"python"'),
            ("'4'", '"python"'),
            ("4 ", '"python" # python'),
            ("- 4", '"python"'),
            ("-0", '"python"'),
            ("00", '"python"'),
            ("4L", '"python"'),
            ("4 4", '"python"'),
        ]
    )


@B.change("text's whole", 16)
def whole_text(rng: Random, draft: Draft) -> None:
    made = draft.render()
    draft.text = rng.choice(
        [
            made.replace("\n", " "),
            made.replace("\n", "\r"),
            made.replace(" ", "\t"),
            made.replace(" ", "\u00a0"),
            made.replace(" ", ""),
            made.replace("[", "").replace("]", "").replace("},", "}"),
            made.replace("input [", "input: ["),
            made.replace("{ name", "{name").replace('"a"', '"a",'),
            "# proto-file: model_config.proto\n# proto-message: ModelConfig\n" + made,
            "---\n" + made,
            made + "\x1a",
            made + "\x0c\n",
            made.replace("TYPE_", "DataType.TYPE_"),
            made.replace("dims", "shape"),
            made.replace("input", "inputs"),
            made.replace("data_type", "datatype"),
        ]
    )


# -- settings of the schedulers --------------------------------------------------------------------


@B.change("queues", 24)
def queues(rng: Random, draft: Draft) -> None:
    levels = rng.choice([0, 1, 3])
    default = rng.choice([0, 1, 2, 4])
    policy = (
        f"timeout_action: {rng.choice(['REJECT', 'DELAY'])} default_timeout_microseconds: {rng.choice([0, 1, 10**9])} "
        f"allow_timeout_override: {rng.choice(['true', 'false'])} max_queue_size: {rng.choice([0, 5])}"
    )
    inside = [f"priority_levels: {levels}", f"default_priority_level: {default}"]
    inside.append(f"default_queue_policy {{ {policy} }}" if rng.random() < 0.6 else "")
    inside.append(
        f"priority_queue_policy [ {{ key: {rng.choice([0, 1, 3, 9])} value {{ {policy} }} }} ]"
        if rng.random() < 0.5
        else ""
    )
    inside.append("preserve_ordering: true" if rng.random() < 0.4 else "")
    draft.more.append("dynamic_batching { %s }" % " ".join(inside))


@B.change("preferred sizes", 16)
def preferred(rng: Random, draft: Draft) -> None:
    sizes = ", ".join(
        str(rng.choice([1, 2, 4, 8, 16, 0, -1])) for _ in range(rng.choice([1, 2, 3]))
    )
    where = rng.choice(["dynamic_batching { %s }", "sequence_batching { oldest { %s } }"])
    draft.head["max_batch_size"] = rng.choice(["0", "4", "8", "16"])
    draft.more.append(where % f"preferred_batch_size: [ {sizes} ]")


@B.change("sequence controls", 40)
def controls(rng: Random, draft: Draft) -> None:
    made = []
    for number in range(rng.choice([1, 2, 3])):
        kind = rng.choice(["START", "END", "READY", "CORRID"])
        values = rng.choice(
            [
                "int32_false_true: [ 0, 1 ]",
                "fp32_false_true: [ 0, 1 ]",
                "bool_false_true: [ false, true ]",
            ]
        )
        if kind == "CORRID":
            values = f"data_type: TYPE_{rng.choice(['UINT64', 'INT64', 'UINT32', 'INT32', 'STRING', 'FP64', 'BOOL'])}"
        more = rng.choice(["", "", "", " data_type: TYPE_INT32", " int32_false_true: [ 1 ]"])
        name = rng.choice([f"C{number}", f"C{number}", "C0", "a"])
        made.append(
            f'{{ name: "{name}" control [ {{ kind: CONTROL_SEQUENCE_{kind} {values}{more} }} ] }}'
        )
    if rng.random() < 0.2:
        made.append('{ name: "E" }')
    strategy = rng.choice(["direct { }", "oldest { max_candidate_sequences: 2 }", ""])
    draft.more.append(f"sequence_batching {{ {strategy} control_input [ {', '.join(made)} ] }}")


@B.change("sequence's rest", 24)
def sequence_rest(rng: Random, draft: Draft) -> None:
    draft.more.append(
        "sequence_batching { %s }"
        % rng.choice(
            [
                "iterative_sequence: true",
                "generative_sequence: true",
                "oldest { preserve_ordering: true }",
                "oldest { max_candidate_sequences: -1 }",
                "oldest { max_candidate_sequences: 0 }",
                "oldest { max_queue_delay_microseconds: 5 }",
                "direct { max_queue_delay_microseconds: 5 }",
                "direct { minimum_slot_utilization: 1.0 }",
                "direct { minimum_slot_utilization: 1.0001 }",
                "direct { minimum_slot_utilization: -0.0 }",
                "max_sequence_idle_microseconds: 18446744073709551615",
                'state { input_name: "i" output_name: "o" data_type: TYPE_FP32 dims: [ -1 ] }',
                'state { input_name: "i" output_name: "o" data_type: TYPE_FP32 }',
                'state { input_name: "i" output_name: "o" dims: [ 1 ] }',
                "state { }",
                'state { input_name: "i" output_name: "o" data_type: TYPE_FP32 dims: [ 0 ] }',
                'state { input_name: "i" output_name: "o" data_type: TYPE_FP32 dims: [ 1 ] use_same_buffer_for_input_output: true }',
                'state { input_name: "i" output_name: "o" data_type: TYPE_FP32 dims: [ 1 ] use_growable_memory: true }',
                'state [ { input_name: "i" output_name: "o" }, { input_name: "i" output_name: "o" } ]',
                'state { input_name: "a" output_name: "b" data_type: TYPE_STRING dims: [ 1 ] }',
                'state { input_name: "i" output_name: "o" data_type: TYPE_STRING dims: [ 1 ] '
                'initial_state { data_type: TYPE_STRING dims: [ 1 ] zero_data: true name: "i" } }',
                'state { input_name: "i" output_name: "o" data_type: TYPE_FP32 dims: [ 2 ] '
                'initial_state { data_type: TYPE_FP32 dims: [ 2 ] data_file: "four" name: "i" } }',
                'state { input_name: "i" output_name: "o" data_type: TYPE_BOOL dims: [ 2 ] '
                'initial_state { data_type: TYPE_BOOL dims: [ 2 ] data_file: "four" name: "i" } }',
                'state { input_name: "i" output_name: "o" data_type: TYPE_FP32 dims: [ -1 ] '
                'initial_state { data_type: TYPE_FP32 dims: [ 1 ] zero_data: false name: "i" } }',
            ]
        )
    )
    draft.files["initial_state/four"] = b"\0" * 4


@B.change("batch tensors", 30)
def batch_tensors(rng: Random, draft: Draft) -> None:
    source = rng.choice(['"a"', '"a"', '"z"', '[ "a", "a" ]', "[ ]"])
    if rng.random() < 0.6:
        kind = rng.choice(
            [
                "BATCH_ELEMENT_COUNT",
                "BATCH_ACCUMULATED_ELEMENT_COUNT",
                "BATCH_ITEM_SHAPE",
                "BATCH_ITEM_SHAPE_FLATTEN",
            ]
            + ["BATCH_MAX_ELEMENT_COUNT_AS_SHAPE", "NOPE", "9"]
        )
        names = rng.choice(
            ['target_name: "t"', 'target_name: [ "t", "u" ]', "", 'target_name: "a"']
        )
        draft.more.append(
            f"batch_input [ {{ kind: {kind} {names} data_type: {rng.choice(['TYPE_INT32', 'TYPE_FP32', 'TYPE_INT64'])} "
            f"source_input: {source} }} ]"
        )
    else:
        target = rng.choice(['"b"', '"b"', '"z"', '[ "b", "b" ]', "[ ]", '"a"'])
        draft.more.append(
            f"batch_output [ {{ target_name: {target} "
            f"kind: BATCH_SCATTER_WITH_INPUT_SHAPE source_input: {source} }} ]"
        )


@B.change("instances", 30)
def instances(rng: Random, draft: Draft) -> None:
    draft.more = [one for one in draft.more if "instance_group" not in one]
    groups = []
    for _ in range(rng.choice([1, 1, 2, 3])):
        groups.append(  # noqa: PERF401 - a loop reads as what it does
            rng.choice(
                [
                    "{ }",
                    "{ count: 1 kind: KIND_CPU }",
                    "{ count: 3 kind: KIND_CPU }",
                    "{ count: 1 kind: KIND_GPU gpus: [ 0 ] }",
                    "{ count: 1 kind: KIND_GPU gpus: [ 7 ] }",
                    "{ kind: KIND_AUTO gpus: [ 0 ] }",
                    "{ gpus: [ -1 ] }",
                    "{ kind: KIND_MODEL gpus: [ 0 ] }",
                    "{ kind: KIND_MODEL count: 2 }",
                    "{ kind: 2 }",
                    "{ kind: 9 }",
                    '{ name: "g" }',
                    '{ name: "g/h" }',
                    '{ name: "a b" }',
                    '{ name: "$(x)" }',
                    '{ host_policy: "cpu_0" }',
                    '{ profile: [ "0", "1" ] }',
                    "{ passive: true }",
                    "{ passive: true count: 2 }",
                    "{ count: -3 }",
                    '{ rate_limiter { resources [ { name: "r" count: 4 } ] priority: 1 } }',
                    '{ rate_limiter { resources [ { name: "r" count: 4 }, { name: "r" global: true count: 1 } ] } }',
                    "{ rate_limiter { priority: -1 } }",
                    "{ secondary_devices [ { kind: KIND_NVDLA } ] }",
                    "{ secondary_devices [ { kind: KIND_GPU } ] }",
                ]
            )
        )
    draft.more.append(f"instance_group [ {', '.join(groups)} ]")


@B.change("cache", 8)
def cache(rng: Random, draft: Draft) -> None:
    draft.more += rng.choice(
        [
            ["response_cache { enable: true }", "sequence_batching { direct { } }"],
            ["response_cache { enable: true }", "dynamic_batching { }"],
            ["response_cache { }", "model_transaction_policy { decoupled: true }"],
            ["response_cache: { enable: true }"],
            ["response_cache { enabled: true }"],
            ["response_cache: true"],
        ]
    )


@B.whole("warm-ups", 40)
def warm_ups(rng: Random) -> Tree:
    draft = Draft(files={"1/model.py": ANSWERS})
    draft.inputs = [
        tensor("a", "TYPE_INT32", "[ -1 ]"),
        tensor("c", "TYPE_FP32", "[ 2 ]", rng.choice(["", "optional: true"])),
    ]
    draft.outputs = [tensor("b", "TYPE_FP32", "[ -1 ]")]
    draft.head["max_batch_size"] = rng.choice(["0", "2"])
    given = {
        "a": f"data_type: {rng.choice(['TYPE_INT32', 'TYPE_INT32', 'TYPE_INT64'])} dims: {rng.choice(['[ 1 ]', '3'])} ",
        "c": f"data_type: TYPE_FP32 dims: {rng.choice(['[ 2 ]', '[ 2 ]', '[ 3 ]'])} ",
    }
    kept = rng.choice([["a", "c"], ["a", "c"], ["a"], ["c"], []])
    inputs = " ".join(
        f'inputs {{ key: "{name}" value {{ {given[name]} '
        f"{rng.choice(['zero_data: true', 'random_data: true', 'zero_data: false'])} }} }}"
        for name in kept
    )
    if rng.random() < 0.2:
        inputs += ' inputs { key: "S" value { data_type: TYPE_INT32 dims: [ 1 ] zero_data: true } }'
    one = f'{{ name: "{rng.choice(["w", ""])}" batch_size: {rng.choice([1, 1, 2, 3])} {inputs} }}'
    draft.more.append(f"model_warmup [ {rng.choice([one, one, f'{one}, {one}'])} ]")
    if rng.random() < 0.3:
        draft.more.append(rng.choice(["dynamic_batching { }", "sequence_batching { }"]))
    return draft.tree()


@B.change("tensor's parts", 24)
def parts(rng: Random, draft: Draft) -> None:
    tensors = rng.choice([draft.inputs, draft.outputs])
    tensors[-1:] = [
        rng.choice(
            [
                tensor("n", dims="1 dims: 2"),
                tensor("n", dims="[ 1 ] dims: [ 2 ]"),
                tensor("n", more="dims: [ 0 ]"),
                tensor("n", more='name: "m"'),
                tensor("n", more="data_type: TYPE_INT32"),
                tensor("a/b"),
                tensor("a b"),
                tensor("\u00e9"),
                tensor(" "),
                tensor("n", more="reshape { }"),
                tensor("n", more="reshape: { shape: 1 }"),
                tensor("n", more="reshape { shape: [ 1, 1, 1 ] }"),
                tensor("n", dims="[ 4294967296, 4294967296 ]", more="reshape { shape: [ 1 ] }"),
                tensor("n", dims="[ -1, 2, -1 ]", more="reshape { shape: [ -1, -1, 2 ] }"),
                tensor("n", dims="[ 2, -1, 3 ]", more="reshape { shape: [ 2, 1, -1, 3, 1 ] }"),
                tensor(
                    "n", dims="[ 6 ]", more="reshape { shape: [ 2, 3 ] } reshape { shape: [ 1 ] }"
                ),
                tensor("n", dims="[ 3, 224, 224 ]", more="format: 2"),
                tensor("n", dims="[ 3, 224, 224 ]", more="format: 9"),
                tensor("n", more="optional: false"),
                tensor("n", more="allow_ragged_batch: false"),
                tensor("n", more="label_filename: ''"),
                tensor("n", more="is_shape_tensor: 0"),
                tensor("n", kind=f"TYPE_{rng.choice(TYPES)}", dims="[ 1, 1, 1, 1, 1, 1, 1, 1, 1 ]"),
                "{ }",
            ]
        )
    ]


@B.change("labels", 8)
def labels(rng: Random, draft: Draft) -> None:
    draft.files |= {
        "l.txt": "a\n",
        "empty.txt": "",
        "1/in.txt": "a\n",
        "link.txt": Link("l.txt"),
        "gone": Link("no"),
    }
    draft.outputs[-1:] = [
        tensor(
            "b",
            more=f'label_filename: "{rng.choice(["l.txt", "empty.txt", "1/in.txt", "in.txt", "link.txt", "gone", "./l.txt", "1"])}"',
        )
    ]


# -- folders -----------------------------------------------------------------------------------------


@B.whole("names of models", 30)
def model_name(rng: Random) -> Tree:
    name = rng.choice(
        [
            "~m.m",
            "~m-1",
            "~m_1",
            "~M",
            "~1",
            "~m.",
            "~m..x",
            "~m,x",
            "~m+x",
            "~m=x",
            "~m@x",
            "~m%20",
            "~m#x",
            "~m~".replace("~m~", "~mm"),
        ]
        + [
            "~m:1",
            "~[m]",
            "~m!",
            "~m*",
            "~m?",
            "~{m}",
            "~m^",
            "~config.pbtxt",
            "~model.py",
            "~" + "m" * 120,
            "~m.python",
        ]
        + ["~m x", "~m$x", "~m;x", "~m&x", "~\u00e9", "~m(1)"]
    )
    draft = some_model(rng, name)
    draft.head.pop("name", None)
    if rng.random() < 0.3:
        draft.config = None
    return draft.tree()


@B.whole("versions and policy", 40)
def versions(rng: Random) -> Tree:
    draft = some_model(rng)
    names = rng.sample(
        ["1", "2", "3", "4", "10", "01", "0", "v1", "-1", "1a", "00", " 1", "1.5", "99999999999"], 3
    )
    draft.files = {
        f"{name}/model.py": rng.choice([CODE, CODE, CODE, "def (:\n", "x = 1\n"]) for name in names
    }
    draft.more.append(
        rng.choice(
            [
                "",
                "version_policy { latest { num_versions: 1 } }",
                "version_policy { latest { num_versions: 2 } }",
                "version_policy { latest { num_versions: 4294967295 } }",
                "version_policy { all { } }",
                f"version_policy {{ specific {{ versions: [ {rng.choice([1, 2, 3, 10, 0, -1])} ] }} }}",
                f"version_policy {{ specific {{ versions: [ {rng.choice([1, 2])}, {rng.choice([3, 4, 50])} ] }} }}",
                "version_policy { specific { versions: 1 versions: 2 } }",
            ]
        )
    )
    return draft.tree()


@B.whole("things in folders", 24)
def things(rng: Random) -> Tree:
    tree = some_model(rng).tree()
    extra: Tree = rng.choice(
        [
            {"~m/1/model.py/x": "x"},
            {"~m/config.pbtxt.d/x": "x"},
            {"~m/configs/config.pbtxt": "x"},
            {"~m/2": None},
            {"~m/2/x": "x"},
            {"~m/0/model.py": "def (:"},
            {"~m/1/1/model.py": "def (:"},
            {"~m/1/__init__.py": ""},
            {"~m/1/requirements.txt": "torch\n"},
            {"~m/.DS_Store": "x", "~.DS_Store": "x"},
            {"~m/1/model.onnx": "x"},
            {"~m/1/model.plan": "x"},
            {"~m/1/model.pt": "x", "~m/1/model.savedmodel/x": "x"},
            {"~m/A/model.onnx": "x"},
            {"~m/triton_python_backend_stub/x": "x"},
            {"~m/1/libtriton_python.so/x": "x"},
            {"~config.pbtxt": "x"},
            {"~1/model.py": CODE},
            {"~m/1/labels.txt": ""},
            {"~a/b/c/config.pbtxt": ""},
            {"~lost+found": None},
            {"~n/1/model.py": ""},
            {"~n/config.pbtxt": 'backend: "python"'},
            {"~n.txt": "x"},
        ]
    )
    for path in extra:
        tree.pop(path.rpartition("/")[0], None)
    if rng.random() < 0.3:
        tree["~m/config.pbtxt"] = str(tree["~m/config.pbtxt"]).replace('backend: "python"\n', "")
    return tree | extra


@B.whole("links, too", 16)
def more_links(rng: Random) -> Tree:
    draft = some_model(rng)
    config = draft.render()
    return rng.choice(
        [
            {"~m/config.pbtxt": config, "~m/1": Link("2"), "~m/2/model.py": CODE},
            {"~m/config.pbtxt": config, "~m/1": Link("."), "~m/model.py": CODE},
            {"~m/config.pbtxt": config, "~m/1": Link("../~store"), "~store/model.py": CODE},
            {"~m/config.pbtxt": config, "~m/1/model.py": CODE, "~m/2": Link("nowhere")},
            {"~m/config.pbtxt": config, "~m/1/model.py": CODE, "~m/loop": Link("loop")},
            {"~m/config.pbtxt": Link("config.pbtxt"), "~m/1/model.py": CODE},
            {"~m/config.pbtxt": Link("1"), "~m/1/model.py": CODE},
            {"~m": Link("~store"), "~store/config.pbtxt": config, "~store/1/model.py": CODE},
            {"~m/config.pbtxt": config, "~m/1/model.py": CODE, "~m/1/up": Link("..")},
        ]
    )
