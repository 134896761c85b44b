"""What the description of a Keras network may name. Whatever is not in these tables is refused."""

_LAYERS = """
InputLayer Functional Model Sequential Activation Dense EinsumDense Embedding Identity Masking ELU LeakyReLU PReLU
ReLU Softmax ThresholdedReLU AdditiveAttention Attention MultiHeadAttention Conv1D Conv1DTranspose Conv2D
Conv2DTranspose Conv3D Conv3DTranspose DepthwiseConv1D DepthwiseConv2D SeparableConv1D SeparableConv2D Add Average
Concatenate Dot Maximum Minimum Multiply Subtract BatchNormalization GroupNormalization LayerNormalization
UnitNormalization CategoryEncoding Discretization HashedCrossing Hashing Normalization Rescaling Resizing CenterCrop
RandomBrightness RandomContrast RandomCrop RandomFlip RandomHeight RandomRotation RandomTranslation RandomWidth
RandomZoom ActivityRegularization AlphaDropout Dropout GaussianDropout GaussianNoise SpatialDropout1D SpatialDropout2D
SpatialDropout3D Cropping1D Cropping2D Cropping3D Flatten Permute RepeatVector Reshape UpSampling1D UpSampling2D
UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D AveragePooling1D AveragePooling2D AveragePooling3D MaxPooling1D
MaxPooling2D MaxPooling3D GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D GlobalMaxPooling1D
GlobalMaxPooling2D GlobalMaxPooling3D RNN SimpleRNN SimpleRNNCell GRU GRUCell LSTM LSTMCell StackedRNNCells ConvLSTM1D
ConvLSTM2D ConvLSTM3D Bidirectional TimeDistributed TFOpLambda SlicingOpLambda
"""
LAYERS = frozenset(_LAYERS.split())
"""Classes of tf_keras.layers and tf_keras.models that only compute."""

_OWN_LAYERS = """
Attention LearnedPositions MaskedMean PaddingMask PairwiseVotes ScaledTanh SelfAttention SupportVectors
TableConvolution TiedEmbedding Trees
"""
OWN_LAYERS = frozenset(_OWN_LAYERS.split())
"""Classes of bmp.models.layers, registered as `bmp>...`."""

_INITIALIZERS = """
Zeros Ones Constant RandomNormal RandomUniform TruncatedNormal VarianceScaling Orthogonal Identity GlorotNormal
GlorotUniform HeNormal HeUniform LecunNormal LecunUniform zeros zero ones one constant random_normal normal
random_uniform uniform truncated_normal variance_scaling orthogonal identity glorot_normal glorot_uniform he_normal
he_uniform lecun_normal lecun_uniform
"""
_REGULARIZERS = """
L1 L2 L1L2 OrthogonalRegularizer l1 l2 l1_l2 orthogonal_regularizer
"""
_CONSTRAINTS = """
MaxNorm MinMaxNorm NonNeg RadialConstraint UnitNorm max_norm min_max_norm non_neg radial_constraint unit_norm
"""
_ACTIVATIONS = """
elu exponential gelu hard_sigmoid leaky_relu linear log_softmax mish relu relu6 selu sigmoid silu softmax softplus
softsign swish tanh
"""
PARTS = {
    "initializer": frozenset(_INITIALIZERS.split()),
    "regularizer": frozenset(_REGULARIZERS.split()),
    "constraint": frozenset(_CONSTRAINTS.split()),
    "activation": frozenset(_ACTIVATIONS.split()),
}
"""What an argument may name, by the last word of its own name: `kernel_initializer`, `activation`."""

POLICIES = frozenset(("float16", "float32", "float64", "bfloat16", "mixed_float16", "mixed_bfloat16"))
_INTEGERS = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
DTYPES = POLICIES.union(_INTEGERS)

_FUNCTIONS = """
__operators__.add __operators__.getitem broadcast_to cast clip_by_value compat.v1.gather compat.v1.nn.conv2d
compat.v1.nn.softmax compat.v1.pad compat.v1.shape compat.v1.squeeze compat.v1.transpose concat convert_to_tensor
einsum expand_dims gather gather_nd identity image.resize linalg.band_part linalg.diag_part linalg.l2_normalize
linalg.matmul linalg.matrix_transpose linalg.norm math.abs math.add math.add_n math.argmax math.argmin math.ceil
math.cos math.cumsum math.divide math.divide_no_nan math.equal math.erf math.exp math.expm1 math.floor math.floordiv
math.floormod math.greater math.greater_equal math.l2_normalize math.less math.less_equal math.log math.log1p
math.log_sigmoid math.logical_and math.logical_not math.logical_or math.maximum math.minimum math.multiply
math.multiply_no_nan math.negative math.not_equal math.pow math.reciprocal math.reduce_all math.reduce_any
math.reduce_euclidean_norm math.reduce_logsumexp math.reduce_max math.reduce_mean math.reduce_min math.reduce_prod
math.reduce_std math.reduce_sum math.reduce_variance math.round math.rsqrt math.sigmoid math.sign math.sin math.sinh
math.softplus math.sqrt math.square math.squared_difference math.subtract math.tan math.tanh math.top_k math.truediv
math.xlogy nn.avg_pool nn.bias_add nn.depth_to_space nn.elu nn.gelu nn.l2_normalize nn.leaky_relu nn.log_softmax
nn.max_pool nn.moments nn.relu nn.relu6 nn.selu nn.sigmoid nn.silu nn.softmax nn.softplus nn.softsign
nn.space_to_depth nn.swish nn.tanh one_hot ones_like pad rank repeat reshape reverse roll shape size slice split
squeeze stack stop_gradient strided_slice tensordot tile transpose unstack where zeros_like
"""
FUNCTIONS = frozenset(_FUNCTIONS.split())
"""Functions of TensorFlow that compute numbers from numbers: what TFOpLambda and SlicingOpLambda may call."""

_KERAS_3_FUNCTIONS = """
Absolute Add Argmax Argmin Cast Clip Concatenate Cos Divide Exp ExpandDims GetItem Log Matmul Max Maximum Mean Min
Minimum Multiply Negative Power Relu Reshape Sigmoid Sin Softmax Sqrt Square Squeeze Stack Subtract Sum Tanh
Transpose TrueDivide
"""
KERAS_3_FUNCTIONS = frozenset(_KERAS_3_FUNCTIONS.split())
"""Classes of keras.src.ops by which Keras 3 describes functions of tensors, such as `x + y`."""

_CODE = "runs code that the file brings along; give the network a layer of Keras instead, and save it again"
_VOCABULARY = (
    "keeps a vocabulary, which it may read from any file; leave it out of the network and turn text into numbers before"
)
_STRIP = "belongs to training with TF-MOT; take it off with {} before you save the network"
REASONS = {
    "Lambda": _CODE,
    "__lambda__": _CODE,
    "TorchModuleWrapper": "unpickles a network of PyTorch, which runs code; import the weights of that network instead",
    "TFSMLayer": "loads another model from a path; import that model instead",
    "StringLookup": _VOCABULARY,
    "IntegerLookup": _VOCABULARY,
    "TextVectorization": _VOCABULARY,
    "ClassMethod": "calls a method by its name; write the network with layers of Keras",
    "InstanceMethod": "calls a method by its name; write the network with layers of Keras",
    "InstanceProperty": "reads an attribute by its name; write the network with layers of Keras",
    "PruneLowMagnitude": _STRIP.format("tfmot.sparsity.keras.strip_pruning"),
    "ClusterWeights": _STRIP.format("tfmot.clustering.keras.strip_clustering"),
    "QuantizeLayer": "belongs to quantization with TF-MOT; convert the network to .tflite and import that",
    "QuantizeWrapper": "belongs to quantization with TF-MOT; convert the network to .tflite and import that",
    "QuantizeWrapperV2": "belongs to quantization with TF-MOT; convert the network to .tflite and import that",
    "QuantizeAnnotate": "belongs to quantization with TF-MOT; convert the network to .tflite and import that",
    "TypeSpec": "describes a kind of tensor that networks for plain arrays do not have",
    "__typespec__": "describes a kind of tensor that networks for plain arrays do not have",
    "CompositeTensor": "holds a sparse or ragged tensor, which networks for plain arrays do not have",
}
"""Why some classes that people do save are refused, and what to do."""
