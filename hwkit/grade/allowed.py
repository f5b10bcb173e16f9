"""What a student's function may hold to be run: arithmetic on tensors and arrays, and nothing that leads out of it.

What is not on the lists below is refused, so nothing needs to be known of the rest of torch and numpy. This is the
first of two fences: the second is the process that runs the function (`isolated.py`).

Three rules carry the lists. Modules are never values: `torch` stands only before a dot. An attribute is named in the
source, never by a string: there is no getattr, format or vars. And nothing is assigned to that is not the student's
own, so that no function of torch's or of the check's can be replaced.
"""

import ast
import builtins
import math
from collections.abc import Mapping

from hwkit.language import marked, say, sentences

# By the module's name: what may stand after its dot. The modules among them may be gone through.
LISTS = {
    "torch": """
        float16 bfloat16 float32 float64 float double half int8 int16 int32 int64 uint8 int long bool pi e inf
        nan Size device finfo tensor as_tensor zeros ones full empty eye arange linspace logspace zeros_like
        ones_like full_like empty_like rand randn randint randperm rand_like randn_like randint_like normal
        bernoulli from_numpy abs add sub subtract mul multiply div divide true_divide pow float_power sqrt rsqrt
        square exp exp2 expm1 log log1p log2 log10 neg reciprocal sin cos tan asin acos atan arcsin arccos
        arctan atan2 sinh cosh tanh sigmoid clamp clip minimum maximum min max amin amax sum nansum mean median
        std var var_mean std_mean prod cumsum cumprod cov matmul mm bmm mv einsum outer dot tensordot trace diag
        diagonal det norm stack cat concat concatenate hstack vstack dstack column_stack reshape permute
        transpose t swapaxes movedim flatten squeeze unsqueeze split chunk unbind flip roll tile
        repeat_interleave where gather take index_select masked_select masked_fill isclose allclose equal eq ne
        lt le gt ge logical_and logical_or logical_not isfinite isnan isinf floor ceil round trunc fmod
        remainder sign lerp addcmul addcdiv broadcast_to broadcast_tensors meshgrid triu tril sort argsort
        argmax argmin topk unique searchsorted bucketize logaddexp logsumexp softmax relu nan_to_num any all
        count_nonzero numel is_tensor clone detach no_grad enable_grad inference_mode pixel_shuffle
        pixel_unshuffle conv2d group_norm diff nn linalg autograd""",
    "torch.nn": """
        Module ModuleList ModuleDict Sequential Identity Parameter Linear Conv2d ConvTranspose2d GroupNorm
        BatchNorm2d LayerNorm InstanceNorm2d SiLU ReLU LeakyReLU GELU Sigmoid Tanh Softplus Dropout Dropout2d
        Upsample MaxPool2d AvgPool2d AdaptiveAvgPool2d Flatten Unflatten Embedding PixelShuffle PixelUnshuffle
        MSELoss functional init utils""",
    "torch.nn.functional": """
        silu relu leaky_relu gelu sigmoid tanh softplus softmax logsigmoid mse_loss l1_loss smooth_l1_loss
        huber_loss pad group_norm layer_norm instance_norm batch_norm conv2d conv_transpose2d linear interpolate
        avg_pool2d max_pool2d adaptive_avg_pool2d pixel_shuffle pixel_unshuffle dropout normalize one_hot unfold
        fold scaled_dot_product_attention""",
    "torch.nn.init": "zeros_ ones_ constant_ normal_ uniform_ kaiming_normal_ kaiming_uniform_ xavier_uniform_",
    "torch.nn.utils": "clip_grad_norm_ clip_grad_value_ parameters_to_vector vector_to_parameters",
    "torch.autograd": "grad",
    "torch.linalg": """
        norm vector_norm matrix_norm eigh eigvalsh eigvals eig svd svdvals det slogdet inv pinv solve lstsq qr
        cholesky matrix_power multi_dot""",
    "numpy": """
        float16 float32 float64 int8 int16 int32 int64 uint8 integer floating pi e inf nan newaxis array asarray
        zeros ones full empty eye identity arange linspace logspace geomspace zeros_like ones_like full_like
        empty_like abs absolute add subtract multiply divide true_divide power float_power sqrt square cbrt exp
        exp2 expm1 log log1p log2 log10 negative reciprocal sin cos tan arcsin arccos arctan arctan2 sinh cosh
        tanh clip minimum maximum min max amin amax sum nansum mean average median std var prod cumsum cumprod
        cov matmul einsum outer inner dot vdot tensordot trace diag diagonal stack concatenate hstack vstack
        dstack column_stack reshape transpose swapaxes moveaxis ravel squeeze expand_dims atleast_1d atleast_2d
        split flip roll tile repeat where take isclose allclose array_equal isfinite isnan isinf isreal
        iscomplexobj real imag floor ceil round around rint trunc fix mod fmod remainder sign broadcast_to
        meshgrid triu tril sort argsort argmax argmin unique searchsorted digitize logaddexp nan_to_num
        real_if_close pad any all count_nonzero shape size ndim diff append insert linalg random""",
    "numpy.linalg": """
        norm eigh eigvalsh eigvals eig svd svdvals det slogdet inv pinv solve lstsq qr cholesky matrix_power multi_dot
        trace""",
    "numpy.random": "default_rng",
    "math": " ".join(name for name in dir(math) if name[0] != "_"),
    "scipy": "linalg",
    "scipy.linalg": "sqrtm eigh eigvals eigvalsh svdvals",
    "hwkit": "diffusion solvers",
    "hwkit.diffusion": "q_sample target loss_weight predict_x0_eps diffusion_loss ddpm_step ddim_step",
    "hwkit.solvers": "log_snr",
}
MODULES = {module: frozenset(names.split()) for module, names in LISTS.items()}
# The names under which the notebooks import them
GIVEN = {"torch": "torch", "nn": "torch.nn", "F": "torch.nn.functional", "np": "numpy", "math": "math"}
TYPES = ("torch.Tensor", "numpy.ndarray", "torch.FloatTensor", "torch.DoubleTensor")  # after isinstance only

# What may stand after the dot of any other value: a tensor's, an array's, a network's, an optimizer's, a container's.
ATTRIBUTES = """
    shape dtype device ndim dim size numel T mT real imag data grad requires_grad is_floating_point eps tiny abs
    add add_ sub sub_ mul mul_ div div_ neg pow pow_ sqrt rsqrt square exp exp_ expm1 log log1p log2 reciprocal
    sin cos tan asin acos atan arcsin arccos arctan sinh cosh tanh sigmoid clamp clamp_ clip clip_ clamp_min
    clamp_max minimum maximum min max amin amax sum mean median std var prod cumsum cumprod cov matmul mm bmm mv
    outer dot trace diag diagonal det norm reshape reshape_as view view_as permute transpose t swapaxes movedim
    flatten squeeze unsqueeze expand expand_as repeat repeat_interleave tile split chunk unbind unfold flip roll
    where gather scatter index_select take masked_fill masked_fill_ masked_select fill_ zero_ copy_ isfinite isnan
    isinf isclose allclose equal eq ne lt le gt ge logical_and logical_or logical_not floor ceil round rint trunc
    fmod remainder sign lerp lerp_ addcmul addcmul_ addcdiv triu tril sort argsort argmax argmin topk unique
    nonzero softmax relu any all new_zeros new_ones new_full new_tensor new_empty normal_ uniform_ random_ to type
    type_as float double half int long bool cpu item tolist numpy detach detach_ clone contiguous backward
    requires_grad_ retain_grad astype copy ravel conj squeeze_ unsqueeze_ integers normal standard_normal random
    uniform permutation choice parameters named_parameters buffers children state_dict load_state_dict train eval
    zero_grad step param_groups forward register_buffer weight bias reset_parameters num_groups alpha_bar beta
    model schedule prediction clip values indices config patch time stem down up middle head shrink grow down1
    down2 up1 up2 blocks downsample upsample append extend insert pop remove index count reverse items keys get
    setdefault update lower upper startswith endswith strip split join
"""
BUILTINS = """
    abs all any bool complex dict divmod enumerate filter float frozenset int isinstance len list map max min next
    iter object pow print range reversed round set slice sorted str sum super tuple zip ArithmeticError
    AssertionError Exception IndexError KeyError NotImplementedError RuntimeError TypeError ValueError
    ZeroDivisionError
"""
ATTRIBUTES, BUILTINS = frozenset(ATTRIBUTES.split()), frozenset(BUILTINS.split())
ASSIGNED = frozenset({"data", "grad", "requires_grad"})  # attributes that may be set, of whatever a student was given
METHODS = frozenset({"__init__", "__call__"})
NODES = (
    *(ast.Module, ast.FunctionDef, ast.ClassDef, ast.arguments, ast.arg, ast.Return, ast.Assign, ast.AugAssign),
    *(ast.For, ast.While, ast.If, ast.With, ast.withitem, ast.Raise, ast.Assert, ast.Expr, ast.Pass, ast.Break),
    *(ast.Continue, ast.BoolOp, ast.NamedExpr, ast.BinOp, ast.UnaryOp, ast.Lambda, ast.IfExp, ast.Dict, ast.Set),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.comprehension, ast.Compare, ast.Call, ast.keyword),
    *(ast.FormattedValue, ast.JoinedStr, ast.Constant, ast.Attribute, ast.Subscript, ast.Starred, ast.Name, ast.List),
    *(ast.Tuple, ast.Slice, ast.expr_context, ast.boolop, ast.operator, ast.unaryop, ast.cmpop),
)
LONGEST = 20_000  # characters of the source of a task


class Refused(ValueError):
    """A student's function holds what is not run; the message is a sentence that says what, and where."""


def vetted(source: str, imports: Mapping[str, str], others: frozenset[str], task: str) -> ast.Module:
    """The syntax tree of a task's source, without annotations, if it holds nothing but what is allowed; Refused else.

    imports: where names of modules and their members come from, as {'F': 'torch.nn.functional', 'sqrt': 'math.sqrt'};
    others: further names that will be given (the other tasks' answers); task: the name whose answer this is, which may
    not be taken from the kit.
    """
    if len(source) > LONGEST:
        raise Refused(say("It was not run: it is longer than {most:,} characters.", most=LONGEST))
    try:
        tree = Bare().visit(ast.parse(source))
        Reader(tree, imports, others, task).read()
    except (SyntaxError, RecursionError, MemoryError, ValueError) as error:
        if isinstance(error, Refused):
            raise
        raise Refused(say("It was not run: Python cannot read it ({error}).", error=type(error).__name__)) from error
    return ast.fix_missing_locations(tree)


class Bare(ast.NodeTransformer):
    """Takes annotations out: they are not needed, and would have to be computed."""

    def visit_arg(self, node):
        node.annotation = None
        return node

    def visit_FunctionDef(self, node):
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node):
        plain = ast.Pass() if node.value is None else ast.Assign(targets=[node.target], value=node.value)
        return self.generic_visit(ast.copy_location(plain, node))


class Reader:
    """Reads the tree of a task's source once, and stops at what is not allowed."""

    def __init__(self, tree: ast.Module, imports: Mapping[str, str], others: frozenset[str], task: str):
        self.imports, self.task = imports, task
        self.taken = {*imports, "isinstance", "super"}  # names that this reading relies on
        self.nodes = list(ast.walk(tree))
        self.parents = {child: node for node in self.nodes for child in ast.iter_child_nodes(node)}
        self.classes = {node.name for node in self.nodes if isinstance(node, ast.ClassDef)}
        stored = {n.id for n in self.nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        arguments = {node.arg for node in self.nodes if isinstance(node, ast.arg)}
        defined = {node.name for node in self.nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        self.known = stored | arguments | defined | others
        self.own = {n.attr for n in self.nodes if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)}
        self.own |= {n.name for n in self.nodes if isinstance(n, ast.FunctionDef) and self.in_class(n)}

    def read(self) -> None:
        for node in self.nodes:
            if self.taken & {getattr(node, "arg", None), getattr(node, "name", None)} and not isinstance(
                node, ast.keyword
            ):
                self.refuse(node, marked("This name stands for something else and must not get another value."))
            if not isinstance(node, NODES):
                self.refuse(
                    node,
                    marked("A graded function computes with torch, numpy and math: it may not hold this."),
                )
            for name in self.names(node):
                if name.startswith("_") and name != "_" and not (name in METHODS and self.is_method(node)):
                    self.refuse(
                        node, marked("Names that begin with an underscore are not allowed in a graded function.")
                    )
            if isinstance(node, ast.Name):
                self.read_name(node)
            elif isinstance(node, ast.Attribute):
                self.read_attribute(node)
            elif isinstance(node, ast.ClassDef):
                self.read_class(node)
            elif isinstance(node, ast.arg) and node.arg == "self" and not self.is_first(node):
                self.refuse(node, marked("The argument `self` is allowed in methods only."))

    def refuse(self, node: ast.AST, why: str, **values):
        """why: a sentence on what graded functions may not hold, with fields for the values."""
        while not hasattr(node, "lineno"):
            node = self.parents.get(node) or ast.Pass(lineno=0)
        shown = ast.unparse(node).split("\n")[0][:80] if node.lineno else ""
        said = say("It was not run, because of line {line}: `{code}`.", line=node.lineno, code=shown)
        raise Refused(sentences(said, say(why, **values)))

    @staticmethod
    def names(node: ast.AST) -> list[str]:
        """The names that a node introduces or asks for."""
        found = [getattr(node, field, None) for field in ("id", "attr", "arg", "name")]
        return [name for name in found if isinstance(name, str)]

    def in_class(self, node: ast.AST) -> bool:
        return isinstance(self.parents.get(node), ast.ClassDef)

    def is_method(self, node: ast.AST) -> bool:
        """Whether a name of METHODS stands where a class defines it, or calls that of its base by super()."""
        if isinstance(node, ast.Attribute):
            base = node.value
            return isinstance(base, ast.Call) and isinstance(base.func, ast.Name) and base.func.id == "super"
        return isinstance(node, ast.FunctionDef) and self.in_class(node)

    def is_first(self, node: ast.arg) -> bool:
        """Whether an argument is the first of a method, or of the U-Net's forward, which is lifted out of its class."""
        function = self.parents[self.parents[node]]
        methods = isinstance(function, ast.FunctionDef) and (self.in_class(function) or function.name == self.task)
        return methods and function.args.args[:1] == [node]

    def read_name(self, node: ast.Name) -> None:
        above = self.parents[node]
        called = isinstance(above, ast.Call) and above.func is node
        if isinstance(node.ctx, ast.Store) and node.id in self.taken | self.classes | {"self"}:
            self.refuse(node, marked("This name stands for something else and must not get another value."))
        if isinstance(node.ctx, ast.Load):
            path = self.imports.get(node.id)
            if node.id == "super" and not (called and not above.args and not above.keywords):
                self.refuse(node, marked("`super` is allowed as `super()` only."))
            if node.id in self.classes and not (called or isinstance(above, ast.ClassDef)):
                self.refuse(node, marked("A class may be called, but not be handed on, in a graded function."))
            if path in MODULES:
                if not (isinstance(above, ast.Attribute) and above.value is node):
                    self.refuse(node, marked("A module may only stand before a dot, as in `torch.sqrt`."))
            elif path is not None:
                self.read_member(node, path)
            elif node.id not in self.known and node.id not in BUILTINS:
                said = "The name {name} is neither defined in the notebook nor allowed in a graded function."
                self.refuse(node, marked(said), name=node.id)

    def read_member(self, node: ast.expr, path: str) -> None:
        """A function or type of a module, as `math.sqrt`, or `sqrt` after `from math import sqrt`."""
        module, _, name = path.rpartition(".")
        if path in TYPES:
            above = self.parents[node]
            while isinstance(above, ast.Tuple | ast.BinOp):
                above = self.parents[above]
            if not (isinstance(above, ast.Call) and isinstance(above.func, ast.Name) and above.func.id == "isinstance"):
                self.refuse(node, marked("{path} is allowed in isinstance(…) only."), path=path)
        elif name not in MODULES.get(module, ()):
            self.refuse(node, marked("{path} is not on the list of what a graded function may use."), path=path)
        elif module.startswith("hwkit") and name == self.task:
            self.refuse(node, marked("The kit's own answer is no answer to this task."))

    def read_attribute(self, node: ast.Attribute) -> None:
        path = self.path(node)
        own = isinstance(node.value, ast.Name) and node.value.id == "self" and self.in_method(node)
        if not isinstance(node.ctx, ast.Load):
            if self.path(node.value) or path or not (node.attr in ASSIGNED or own):
                self.refuse(
                    node,
                    marked("Only attributes of `self`, and .data, .grad and .requires_grad, may get another value."),
                )
        elif path in MODULES:
            above = self.parents[node]
            if not (isinstance(above, ast.Attribute) and above.value is node):
                self.refuse(node, marked("A module may only stand before a dot, as in `torch.sqrt`."))
        elif path is not None:
            self.read_member(node, path)
        elif isinstance(node.value, ast.Name) and node.value.id in self.classes:
            self.refuse(node, marked("What a class holds may be reached through its objects only."))
        elif node.attr not in ATTRIBUTES and not (own and node.attr in self.own) and not self.is_method(node):
            said = "The attribute .{name} is not on the list of what a graded function may use."
            self.refuse(node, marked(said), name=node.attr)

    def path(self, node: ast.expr) -> str | None:
        """'torch.nn.functional.silu' of an expression that leads there through modules; None of any other."""
        if isinstance(node, ast.Name):
            path = self.imports.get(node.id)
            return path if path in MODULES else None
        if isinstance(node, ast.Attribute):
            above = self.path(node.value)
            return f"{above}.{node.attr}" if above in MODULES else None
        return None

    def in_method(self, node: ast.AST) -> bool:
        """Whether a node stands in a method, whose `self` is an object of the student's own class."""
        while node := self.parents.get(node):
            if isinstance(node, ast.FunctionDef) and self.in_class(node):
                return [argument.arg for argument in node.args.args[:1]] == ["self"]
        return False

    def read_class(self, node: ast.ClassDef) -> None:
        if not isinstance(self.parents[node], ast.Module) or node.keywords or node.decorator_list:
            self.refuse(node, marked("A class must stand alone, without keywords and decorators."))
        for base in node.bases:
            named = isinstance(base, ast.Name) and (base.id in self.classes or base.id == "object")
            if not named and self.imports.get(getattr(base, "id", ""), self.path(base)) != "torch.nn.Module":
                self.refuse(node, marked("A class may inherit from nn.Module or from a class of the notebook."))
        for part in node.body:
            if not isinstance(part, ast.FunctionDef | ast.Pass | ast.Expr):
                self.refuse(part, marked("A class may hold methods only."))
            if isinstance(part, ast.FunctionDef) and part.args.args and part.args.args[0].arg != "self":
                self.refuse(part, marked("The first argument of a method must be called `self`."))


def safe_builtins() -> dict:
    """What the functions see of Python's own names; `__build_class__` is what the statement `class` calls."""
    return {name: getattr(builtins, name) for name in (*BUILTINS, "__build_class__")}
