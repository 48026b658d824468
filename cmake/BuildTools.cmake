# Tools that only make building quicker: used where they are, missed nowhere.
find_program(SOFTLOSS_CCACHE ccache)
if(SOFTLOSS_CCACHE)
  foreach(language CXX CUDA)
    if(NOT CMAKE_${language}_COMPILER_LAUNCHER)
      set(CMAKE_${language}_COMPILER_LAUNCHER ${SOFTLOSS_CCACHE})
    endif()
  endforeach()
endif()

find_program(SOFTLOSS_MOLD mold)
if(SOFTLOSS_MOLD AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  add_link_options($<$<LINK_LANGUAGE:CXX>:-fuse-ld=mold>)
endif()
