"""The first round: one model at a time, by the field or the file that is wrong."""

from __future__ import annotations

from tests.data.lint_trees.draft import (
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

A = Round("A")

# -- version folders and their policy ---------------------------------------------------------------


@A.change("version folders", 14)
def version_name(rng: Random, draft: Draft) -> None:
    name = rng.choice(
        [
            "01",
            "v1",
            "0",
            "-1",
            "latest",
            "1.0",
            "2",
            "10",
            "1_0",
            "+1",
            "one",
            "1 ",
            "x1",
            "00",
            "1e3",
            "007",
        ]
    )
    draft.files = {f"{name}/model.py": CODE}


@A.change("version folders", 14)
def version_beside(rng: Random, draft: Draft) -> None:
    name = rng.choice(
        ["01", "v2", "0", "latest", "2", "10", "tmp", ".hidden", "assets", "000", "a1", "3.1"]
    )
    draft.files[f"{name}/model.py"] = CODE


@A.change("version folders", 6)
def version_without_code(rng: Random, draft: Draft) -> None:
    draft.files = {rng.choice(["1/model.txt", "1/Model.py", "1/model.pyc", "1/src/model.py"]): CODE}


@A.change("version folders", 6)
def no_version(rng: Random, draft: Draft) -> None:
    draft.files = rng.choice([{}, {"model.py": CODE}, {"1": "x"}, {"src/model.py": CODE}])


@A.change("version policy", 30)
def version_policy(rng: Random, draft: Draft) -> None:
    have = rng.choice([["1"], ["1", "2"], ["1", "2", "3"], ["2"], ["5", "7"], ["0", "1"]])
    draft.files = {f"{version}/model.py": CODE for version in have}
    draft.more.append(
        "version_policy { %s }"
        % rng.choice(
            [
                "all { }",
                "latest { }",
                "latest { num_versions: 1 }",
                "latest { num_versions: 2 }",
                "latest { num_versions: 9 }",
                "latest { num_versions: 0 }",
                "specific { versions: [ 1 ] }",
                "specific { versions: [ 2 ] }",
                "specific { versions: [ 1, 2 ] }",
                "specific { versions: [ 3, 9 ] }",
                "specific { versions: [ 0 ] }",
                "specific { versions: 7 }",
                "specific { }",
                "",
                "specific { versions: [ -1 ] }",
                "specific { versions: [ 1, 1 ] }",
            ]
        )
    )


@A.change("version policy", 10)
def one_version_broken(rng: Random, draft: Draft) -> None:
    broken = rng.choice(["import nothing_here_\n" + CODE, "", "def (:\n", "x = 1\n"])
    draft.files = {"1/model.py": CODE, "2/model.py": CODE}
    draft.files[rng.choice(["1/model.py", "2/model.py"])] = broken
    draft.more.append(
        rng.choice(
            ["version_policy { all { } }", "version_policy { latest { num_versions: 1 } }", ""]
        )
    )


# -- names, backends, files ------------------------------------------------------------------------


@A.change("name", 12)
def name(rng: Random, draft: Draft) -> None:
    text = rng.choice(
        ['"~m"', '"~M"', '"m"', '""', '"~m "', '"~m/1"', '"other"', "'~m'", '"~" "m"', '"~m.py"']
    )
    draft.head = {**draft.head, "name": text}


@A.change("backend", 24)
def backend(rng: Random, draft: Draft) -> None:
    name = rng.choice(
        [
            "python",
            "Python",
            "PYTHON",
            "tensorrtllm",
            "onnxruntime",
            "tensorrt",
            "pytorch",
            "openvino",
            "identity",
            "dali",
            "vllm",
            "fil",
            "tensorflow",
            "repeat",
            "square",
            "ensemble",
        ]
        + ["", "python ", "py", "../python", "python.so"]
    )
    draft.head["backend"] = f'"{name}"'


@A.change("backend", 24)
def platform(rng: Random, draft: Draft) -> None:
    name = rng.choice(
        [
            "python",
            "ensemble",
            "onnxruntime_onnx",
            "tensorrt_plan",
            "pytorch_libtorch",
            "tensorflow_savedmodel",
            "tensorflow_graphdef",
            "custom",
            "openvino",
            "tensorrtllm",
        ]
        + [""]
    )
    if rng.random() < 0.6:
        del draft.head["backend"]
    draft.head["platform"] = f'"{name}"'


@A.change("backend", 20)
def no_backend(rng: Random, draft: Draft) -> None:
    del draft.head["backend"]
    if rng.random() < 0.6:
        file = rng.choice(
            [
                "model.onnx",
                "model.plan",
                "model.pt",
                "model.xml",
                "model.graphdef",
                "model.savedmodel/x",
                "model.txt",
                "model.bin",
                "model.identity",
                "model.pt2",
            ]
        )
        draft.files = {f"1/{file}": "x"} if rng.random() < 0.6 else draft.files | {f"1/{file}": "x"}


@A.whole("no configuration", 20)
def no_config(rng: Random) -> Tree:
    draft = some_model(
        rng, rng.choice(["~m", "~m.python", "~m.identity", "~m.onnx", "~m.a.python"])
    )
    draft.config = None
    file = rng.choice(
        ["model.py", "model.py", "model.onnx", "model.python", "model.identity", "model.pt", "x"]
    )
    draft.files = {f"{rng.choice(['1', '1', '2', '0', 'v1'])}/{file}": CODE}
    return draft.tree()


@A.change("file name", 12)
def default_filename(rng: Random, draft: Draft) -> None:
    named = rng.choice(
        ["model.py", "serve.py", "nope.py", "sub/serve.py", "model.onnx", "", "serve"]
    )
    draft.head["default_model_filename"] = f'"{named}"'
    draft.files["1/serve.py"] = CODE
    draft.files["1/sub/serve.py"] = CODE


@A.change("file name", 8)
def cc_filenames(rng: Random, draft: Draft) -> None:
    draft.more.append(
        rng.choice(
            [
                'cc_model_filenames { key: "7.5" value: "model.py" }',
                'cc_model_filenames { key: "" value: "" }',
                'cc_model_filenames [ { key: "8.0" value: "a" }, { key: "8.0" value: "b" } ]',
                'metric_tags { key: "a" value: "b" }',
            ]
        )
    )


@A.change("runtime", 8)
def runtime(rng: Random, draft: Draft) -> None:
    text = rng.choice(
        [
            "",
            "libtriton_python.so",
            "model.py",
            "onnx",
            "libtriton_onnxruntime.so",
            "python",
            "nope.so",
        ]
    )
    draft.head["runtime"] = f'"{text}"'


# -- where the configuration stands ---------------------------------------------------------------


@A.change("config's place", 12)
def config_place(rng: Random, draft: Draft) -> None:
    draft.config = rng.choice(
        [
            "1/config.pbtxt",
            "config.pbtx",
            "Config.pbtxt",
            "config.txt",
            "config/config.pbtxt",
            "config.pbtxt.bak",
        ]
    )
    if rng.random() < 0.5:
        draft.files = {"1/model.plan": "x"}


@A.whole("config's place", 8)
def wrong_level(rng: Random) -> Tree:
    inner = some_model(rng).tree()
    if rng.random() < 0.5:
        return {f"~models/{path}": content for path, content in inner.items()}
    return {path.replace("~m/", "~m/m/"): content for path, content in inner.items()}


@A.whole("other folders", 12)
def folder_beside(rng: Random) -> Tree:
    name = rng.choice(
        [
            ".~ipynb_checkpoints/x",
            "~data/x",
            "~empty",
            ".~git/HEAD",
            "~__pycache__/x.pyc",
            "~README",
        ]
    )
    content = None if name == "~empty" else "x"
    return some_model(rng).tree() | {name: content}


@A.change("other folders", 8)
def folder_inside(rng: Random, draft: Draft) -> None:
    name = rng.choice(
        [".ipynb_checkpoints", "1/.ipynb_checkpoints", "__pycache__", "0_old", "A", "1/sub"]
    )
    draft.files[f"{name}/model-checkpoint.py"] = "x"
    if rng.random() < 0.5:
        draft.head.pop("backend")


# -- tensors -------------------------------------------------------------------------------------------


@A.change("data type", 20)
def data_type(rng: Random, draft: Draft) -> None:
    kind = rng.choice(
        [
            "TYPE_BYTES",
            "STRING",
            "TYPE_INVALID",
            "INT32",
            "TYPE_FLOAT",
            "TYPE_INT4",
            "TYPE_FP8",
            "11",
            "13",
            "99",
        ]
        + [
            "0",
            "-1",
            '"TYPE_FP32"',
            "type_fp32",
            "TYPE_BF16",
            "TYPE_FLOAT32",
            f"TYPE_{rng.choice(TYPES)}",
        ]
    )
    tensors = rng.choice([draft.inputs, draft.outputs])
    tensors[-1] = tensor("z", kind)


@A.change("dims", 30)
def dims(rng: Random, draft: Draft) -> None:
    size = rng.choice(
        [
            "[ ]",
            "[ 0 ]",
            "[ -1 ]",
            "[ -2 ]",
            "[ 1, 0 ]",
            "[ -1, -1 ]",
            "[ 3, -1, 4 ]",
            "7",
            "[ 2147483648 ]",
            "[ 1.5 ]",
        ]
        + [
            "[ 1e3 ]",
            '[ "1" ]',
            "[ 9223372036854775807 ]",
            "[ 9223372036854775808 ]",
            "[ 0x10 ]",
            "[ 010 ]",
            "[ 1 2 ]",
        ]
        + [
            "[ 1, ]",
            "[ , ]",
            "[ -1",
            "( 1 )",
            "[[ 1 ]]",
            "{ 1 }",
            "[ - 1 ]",
            "[ +1 ]",
            "-1",
            "[ -3, 2 ]",
        ]
    )
    tensors = rng.choice([draft.inputs, draft.outputs])
    tensors[-1] = tensor("z", dims=size)


@A.change("dims", 8)
def missing_part(rng: Random, draft: Draft) -> None:
    part = rng.choice(['name: "a"', "data_type: TYPE_STRING", "dims: [ 1 ]"])
    tensors = rng.choice([draft.inputs, draft.outputs])
    tensors[-1] = tensor("a").replace(part, "")


@A.change("dims", 6)
def doubled_tensor(rng: Random, draft: Draft) -> None:
    tensors = rng.choice([draft.inputs, draft.outputs])
    tensors.append(rng.choice([tensors[0], tensor("a"), tensor("b")]))


@A.change("reshape", 40)
def reshape(rng: Random, draft: Draft) -> None:
    size = rng.choice(
        ["[ 1 ]", "[ 4 ]", "[ 2, 2 ]", "[ -1 ]", "[ -1, 2 ]", "[ 2, -1, 3 ]", "[ -1, -1 ]", "[ 6 ]"]
    )
    shape = rng.choice(
        [
            "[ ]",
            "[ 1 ]",
            "[ 4 ]",
            "[ 2, 2 ]",
            "[ 1, 4 ]",
            "[ -1 ]",
            "[ 2, -1 ]",
            "[ -1, 1, 2 ]",
            "[ 2, -1, 1, 3 ]",
        ]
        + ["[ 0 ]", "[ -1, -1 ]", "[ 3, 2 ]", "[ -2 ]"]
    )
    tensors = rng.choice([draft.inputs, draft.outputs])
    tensors[-1] = tensor("z", dims=size, more=f"reshape {{ shape: {shape} }}")


@A.change("tensor's kind", 16)
def tensor_kind(rng: Random, draft: Draft) -> None:
    more = rng.choice(
        [
            "is_shape_tensor: true",
            "is_shape_tensor: false",
            "allow_ragged_batch: true",
            "optional: true",
        ]
        + [
            "format: FORMAT_NCHW",
            "format: FORMAT_NHWC",
            "format: FORMAT_NONE",
            "is_non_linear_format_io: true",
        ]
        + [
            "format: NCHW",
            "is_optional: true",
            "optional: 1",
            'optional: "true"',
            "label_filename: 'x'",
        ]
    )
    size = rng.choice(["[ 1 ]", "[ 3, 2, 2 ]", "[ -1, -1, 3 ]"])
    draft.inputs[-1] = tensor("z", dims=size, more=more)


@A.change("tensor's kind", 10)
def label_file(rng: Random, draft: Draft) -> None:
    name = rng.choice(["labels.txt", "nope.txt", "1/labels.txt", "", "folder", "../~m/labels.txt"])
    draft.files |= {"labels.txt": "one\ntwo\n", "folder/x": "x"}
    draft.outputs[-1] = tensor("z", more=f'label_filename: "{name}"')


# -- batches ----------------------------------------------------------------------------------------


@A.change("max_batch_size", 16)
def max_batch_size(rng: Random, draft: Draft) -> None:
    draft.head["max_batch_size"] = rng.choice(
        [
            "-1",
            "0",
            "1",
            "1024",
            "2147483647",
            "2147483648",
            "-2147483648",
            "4.0",
            "4.5",
            "0x4",
            "1e1",
            "04",
            "08",
            "true",
        ]
        + ['"4"', "[ 4 ]"]
    )


@A.change("max_batch_size", 4)
def no_max_batch_size(rng: Random, draft: Draft) -> None:
    draft.head.pop("max_batch_size")
    if rng.random() < 0.5:
        draft.more.append("dynamic_batching { preferred_batch_size: [ 2 ] }")


@A.change("dynamic batching", 40)
def dynamic_batching(rng: Random, draft: Draft) -> None:
    inside = [
        rng.choice(
            [
                "",
                "preferred_batch_size: [ 4 ]",
                "preferred_batch_size: [ 4, 8 ]",
                "preferred_batch_size: 1",
            ]
            + [
                "preferred_batch_size: [ 0 ]",
                "preferred_batch_size: [ -1 ]",
                "preferred_batch_size: [ ]",
            ]
        ),
        rng.choice(
            ["", "", "max_queue_delay_microseconds: 100", "max_queue_delay_microseconds: -1"]
        ),
        rng.choice(["", "", "preserve_ordering: true"]),
        rng.choice(["", "", "priority_levels: 2", "priority_levels: 2 default_priority_level: 1"])
        + rng.choice(["", "", " default_priority_level: 3"]),
        rng.choice(
            [
                "",
                "",
                "default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 9 }",
            ]
        ),
        rng.choice(["", "", "priority_queue_policy { key: 2 value { max_queue_size: 3 } }"]),
    ]
    draft.more.append("dynamic_batching { %s }" % " ".join(filter(None, inside)))


@A.change("dynamic batching", 12)
def priorities(rng: Random, draft: Draft) -> None:
    levels = rng.choice([0, 1, 2, 5, 100])
    draft.more.append(
        f"dynamic_batching {{ priority_levels: {levels} default_priority_level: {rng.choice([0, 1, 2, 6])} "
        f"preserve_ordering: {rng.choice(['true', 'false'])} "
        f"priority_queue_policy {{ key: {rng.choice([0, 1, 2, 6])} value {{ timeout_action: "
        f"{rng.choice(['DELAY', 'REJECT', 'DROP'])} default_timeout_microseconds: {rng.choice([0, 10])} }} }} }}"
    )


@A.change("sequence batching", 40)
def sequence_batching(rng: Random, draft: Draft) -> None:
    control = rng.choice(
        [
            "kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ]",
            "kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ]",
            "kind: CONTROL_SEQUENCE_END bool_false_true: [ false, true ]",
            "kind: CONTROL_SEQUENCE_READY int32_false_true: [ 0 ]",
            "kind: CONTROL_SEQUENCE_READY int32_false_true: [ 0, 1 ] fp32_false_true: [ 0, 1 ]",
            "kind: CONTROL_SEQUENCE_END",
            "kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64",
            "kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_STRING",
            "kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_FP32",
            "kind: CONTROL_SEQUENCE_CORRID",
            "kind: CONTROL_SEQUENCE_CORRID int32_false_true: [ 0, 1 ] data_type: TYPE_INT32",
            "kind: CONTROL_START",
            "int32_false_true: [ 0, 1 ]",
            "",
        ]
    )
    strategy = rng.choice(
        [
            "",
            "direct { }",
            "oldest { max_candidate_sequences: 4 }",
            "oldest { }",
            "oldest { preferred_batch_size: [ 4 ] }",
            "oldest { preferred_batch_size: [ 0 ] }",
            "direct { minimum_slot_utilization: 0.5 }",
            "direct { minimum_slot_utilization: 1.5 }",
            "direct { minimum_slot_utilization: -0.5 }",
            "direct { } oldest { }",
        ]
    )
    named = rng.choice(['name: "S"', 'name: "S"', ""])
    draft.more.append(
        f"sequence_batching {{ {strategy} max_sequence_idle_microseconds: {rng.choice([0, 5000000])} "
        f"control_input [ {{ {named} control [ {{ {control} }} ] }} ] }}"
    )


@A.change("sequence batching", 8)
def doubled_control(rng: Random, draft: Draft) -> None:
    kinds = [rng.choice(["START", "END", "READY"]) for _ in range(2)]
    names = [rng.choice("ST") for _ in range(2)]
    controls = ", ".join(
        f'{{ name: "{one}" control [ {{ kind: CONTROL_SEQUENCE_{kind} int32_false_true: [ 0, 1 ] }} ] }}'
        for one, kind in zip(names, kinds, strict=True)
    )
    draft.more.append(f"sequence_batching {{ control_input [ {controls} ] }}")


@A.change("sequence batching", 24)
def sequence_state(rng: Random, draft: Draft) -> None:
    initial = rng.choice(
        [
            "",
            'initial_state { data_type: TYPE_INT32 dims: [ 1 ] zero_data: true name: "i" }',
            'initial_state { data_type: TYPE_FP32 dims: [ 1 ] zero_data: true name: "i" }',
            "initial_state { data_type: TYPE_INT32 dims: [ 1 ] zero_data: true }",
            'initial_state { data_type: TYPE_INT32 dims: [ -1 ] zero_data: true name: "i" }',
            'initial_state { data_type: TYPE_INT32 dims: [ 1, 1 ] zero_data: true name: "i" }',
            'initial_state { data_type: TYPE_INT32 dims: [ 2 ] zero_data: true name: "i" }',
            'initial_state { data_type: TYPE_INT32 dims: [ 1 ] data_file: "zeros" name: "i" }',
            'initial_state { data_type: TYPE_INT32 dims: [ 1 ] data_file: "nope" name: "i" }',
            'initial_state { data_type: TYPE_INT32 dims: [ 1 ] name: "i" }',
        ]
    )
    draft.files["initial_state/zeros"] = rng.choice([b"\0" * 4, b"\0" * 3])
    state = f'input_name: "si" output_name: "so" data_type: TYPE_INT32 dims: [ {rng.choice([1, -1, 1, 2])} ] {initial}'
    more = rng.choice(["", "", initial])
    draft.more.append(f"sequence_batching {{ state [ {{ {state} {more} }} ] }}")


# -- instances, cache, parameters -------------------------------------------------------------------


@A.change("instance group", 40)
def instance_group(rng: Random, draft: Draft) -> None:
    inside = [
        rng.choice(
            [
                "",
                "kind: KIND_CPU",
                "kind: KIND_CPU",
                "kind: KIND_GPU",
                "kind: KIND_AUTO",
                "kind: KIND_MODEL",
            ]
            + ["kind: CPU", "kind: KIND_TPU"]
        ),
        rng.choice(["", "", "count: 0", "count: 2", "count: -1", "count: 1"]),
        rng.choice(["", "", "", "gpus: [ 0 ]", "gpus: [ ]"]),
        rng.choice(["", "", "", 'profile: "0"', 'host_policy: "x"', "passive: true", 'name: "g"']),
        rng.choice(["", "", "", "secondary_devices { kind: KIND_NVDLA device_id: 0 }"]),
        rng.choice(
            [
                "",
                "",
                "",
                "rate_limiter { priority: 2 }",
                'rate_limiter { resources { name: "R" count: 2 } }',
            ]
            + [
                'rate_limiter { resources { name: "R" global: true count: 0 } }',
                "rate_limiter { resources { } }",
            ]
        ),
    ]
    group = "{ %s }" % " ".join(filter(None, inside))
    groups = rng.choice([group, group, f"{group}, {group}", ""])
    draft.more = [one for one in draft.more if "instance_group" not in one]
    draft.more.append(f"instance_group [ {groups} ]")


@A.change("response cache", 10)
def response_cache(rng: Random, draft: Draft) -> None:
    draft.more.append(f"response_cache {{ enable: {rng.choice(['true', 'false', '1', 'yes'])} }}")
    draft.more.append(
        rng.choice(
            [
                "",
                "model_transaction_policy { decoupled: true }",
                "dynamic_batching { }",
                "sequence_batching { }",
            ]
        )
    )


@A.change("decoupled", 10)
def decoupled(rng: Random, draft: Draft) -> None:
    draft.more.append(
        f"model_transaction_policy {{ decoupled: {rng.choice(['true', 'True', 'false', 't', 'TRUE'])} }}"
    )
    draft.more.append(rng.choice(["", "dynamic_batching { }", "sequence_batching { oldest { } }"]))


@A.change("parameters", 24)
def parameters(rng: Random, draft: Draft) -> None:
    draft.more.append(
        rng.choice(
            [
                'parameters { key: "FORCE_CPU_ONLY_INPUT_TENSORS" value { string_value: "no" } }',
                'parameters { key: "FORCE_CPU_ONLY_INPUT_TENSORS" value { string_value: "yes" } }',
                'parameters { key: "FORCE_CPU_ONLY_INPUT_TENSORS" value { string_value: "maybe" } }',
                'parameters { key: "EXECUTION_ENV_PATH" value { string_value: "" } }',
                'parameters { key: "EXECUTION_ENV_PATH" value { string_value: "/nope/env.tar.gz" } }',
                'parameters { key: "EXECUTION_ENV_PATH" value { string_value: "$$TRITON_MODEL_DIRECTORY/env" } }',
                'parameters { key: "EXECUTION_ENV_PATH" value { string_value: "$$TRITON_MODEL_DIRECTORY/bad.tar.gz" } }',
                'parameters { key: "p" value: "x" }',
                'parameters { key: "p" string_value: "x" }',
                'parameters { key: "p" value { string_value: 3 } }',
                'parameters { key: "p" }',
                "parameters { }",
                'parameters: { key: "p" value: { string_value: "${dir}" } }',
                'parameters { key: "q" value { string_value: "a" } } parameters { key: "q" value { string_value: "b" } }',
                'parameters [ { key: "r" value { string_value: "a" "b" } } ]',
            ]
        )
    )
    draft.files |= {"bad.tar.gz": "x", "env/x": "x"}


@A.change("optimisation", 16)
def optimisation(rng: Random, draft: Draft) -> None:
    inside = rng.choice(
        [
            "priority: PRIORITY_MAX",
            "priority: HIGH",
            "graph { level: 1 }",
            "cuda { graphs: true }",
            "execution_accelerators { gpu_execution_accelerator { name: 'tensorrt' } }",
            "execution_accelerators { cpu_execution_accelerator { name: 'nope' } }",
            "input_pinned_memory { enable: false }",
            "gather_kernel_buffer_threshold: 5",
            "eager_batching: true",
            "level: 1",
            "",
        ]
    )
    draft.more.append(f"optimization {{ {inside} }}")


@A.change("newer fields", 12)
def other_fields(rng: Random, draft: Draft) -> None:
    draft.more.append(
        rng.choice(
            [
                "model_metrics { }",
                'model_metrics { metric_control { metric_identifier { family: "x" } } }',
                'model_repository_agents { agents { name: "checksum" } }',
                "model_repository_agents { }",
                "model_operations { }",
                'model_operations { op_library_filename: "x.so" }',
                "model_transaction_policy { }",
                "nonsense: 1",
                "input_format: NCHW",
                "scheduling { }",
            ]
        )
    )


# -- warm-up ----------------------------------------------------------------------------------------------


@A.whole("warm-up", 60)
def warm_up(rng: Random) -> Tree:
    from tests.data.lint_trees.draft import ANSWERS

    draft = Draft(files={"1/model.py": rng.choice([ANSWERS, ANSWERS, ANSWERS, CODE])})
    kind = rng.choice(["TYPE_INT32", "TYPE_FP32", "TYPE_INT32", "TYPE_STRING"])
    draft.head["max_batch_size"] = rng.choice(["0", "4"])
    size = rng.choice(["[ 1 ]", "[ -1 ]", "[ 2 ]"])
    draft.inputs = [tensor("a", kind, size)]
    draft.outputs = [tensor("b", "TYPE_FP32", "[ -1 ]")]
    given = rng.choice([kind, kind, kind, "TYPE_FP64"])
    data = rng.choice(
        [
            "zero_data: true",
            "random_data: true",
            'input_data_file: "raw"',
            'input_data_file: "nope"',
            "",
        ]
    )
    draft.files["warmup/raw"] = rng.choice([b"\0" * 16, b"\0" * 2])
    warm_dims = rng.choice(["[ 1 ]", "[ 1 ]", "[ 2 ]", "[ -1 ]", "[ 1, 1 ]", "[ ]", "[ 0 ]"])
    named = rng.choice(["a", "a", "a", "z"])
    draft.more.append(
        f'model_warmup [ {{ name: "w" batch_size: {rng.choice([0, 1, 1, 2, 8])} {rng.choice(["", "count: 2"])} '
        f'inputs {{ key: "{named}" value {{ data_type: {given} dims: {warm_dims} {data} }} }} }} ]'
    )
    return draft.tree()


# -- text ---------------------------------------------------------------------------------------------------


@A.change("text", 30)
def text(rng: Random, draft: Draft) -> None:
    made = draft.render()
    draft.text = rng.choice(
        [
            made.replace("\n", "\r\n"),
            b"\xef\xbb\xbf" + made.encode(),
            "",
            "\n\n# nothing\n",
            made + made,
            made.replace("{", "<").replace("}", ">"),
            made.replace('"', "'"),
            made + "// comment\n",
            made + "# caf\u00e9\n",
            made + '# "unclosed\n',
            made.replace(": ", " : "),
            made.replace(": ", " ", 1),
            made + "}",
            made + "input [",
            made.replace(",", ";"),
            made + "\0",
            made.encode("utf-16"),
            made + 'parameters { key: "\u00e9" value { string_value: "\u00e9" } }',
            made.encode() + b'parameters { key: "k" value { string_value: "\xe9" } }',
            made + "max_batch_size: ${n}\n",
            made + 'parameters { key: "${k}" value { string_value: "${v}" } }',
            made.replace("max_batch_size", "maxBatchSize"),
            made.replace("max_batch_size", "MAX_BATCH_SIZE"),
            made + 'metric_tags { key: "a" value: "\\x41\\101\\n\\d" }',
            "{" + made + "}",
            "<?xml version='1.0'?>",
            '{"name": "x", "backend": "python"}',
            made + "[nvidia.x]: 1",
            made + 'backend: "python"\n',
            made + "max_batch_size: 8\n",
        ]
    )


@A.change("text", 40)
def damaged_text(rng: Random, draft: Draft) -> None:
    made = draft.render()
    place = rng.randrange(len(made))
    size = rng.choice([1, 1, 2, 5])
    lines = made.splitlines(keepends=True)
    line = rng.randrange(len(lines))
    draft.text = rng.choice(
        [
            made[:place] + made[place + size :],
            made[:place] + rng.choice("{}[]\":,;#<>'\\0aZ-_. ") + made[place:],
            "".join(lines[:line] + lines[line + 1 :]),
            "".join(lines[: line + 1] + lines[line:]),
            made[:place],
        ]
    )


# -- files on the disk ------------------------------------------------------------------------------


@A.whole("links", 14)
def links(rng: Random) -> Tree:
    made = some_model(rng).tree()
    config = made["~m/config.pbtxt"]
    store: Tree = {"~m/store/config.pbtxt": config, "~m/store/model.py": CODE}
    return store | rng.choice(
        [
            {"~m/config.pbtxt": Link("store/config.pbtxt"), "~m/1/model.py": CODE},
            {"~m/config.pbtxt": config, "~m/1/model.py": Link("../store/model.py")},
            {"~m/config.pbtxt": config, "~m/1": Link("store")},
            {"~m/config.pbtxt": config, "~m/1/model.py": Link("nowhere.py")},
            {"~m/config.pbtxt": Link("nowhere"), "~m/1/model.py": CODE},
            {"~m/config.pbtxt": config, "~m/1/model.py": CODE, "~n": Link("~m")},
            {"~m/config.pbtxt": config, "~m/1": Link("1")},
            {"~m/config.pbtxt": config, "~m/1/model.py": CODE, "~broken": Link("nowhere")},
        ]
    )


@A.change("empty files", 8)
def empty_files(rng: Random, draft: Draft) -> None:
    which = rng.choice(["1/model.py", "config", "1/x", "keep"])
    if which == "config":
        draft.text = ""
    else:
        draft.files[which] = ""
